use std::sync::Mutex;

use tokio::time::{Instant, timeout};

use super::*;
use crate::tests::ca::TestCa;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A clock that follows tokio's, which is paused and jumps from timer to timer.
fn simulated_clock() -> WallClock {
    // Certificates have whole seconds.
    let begin = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let started = Instant::now();
    Arc::new(move || begin + started.elapsed())
}

/// Issues certificates of `life`, or fails while it is `down`; remembers when it was asked.
#[derive(Clone)]
struct Simulated {
    ca: Arc<TestCa>,
    clock: WallClock,
    life: Duration,
    down: Arc<Mutex<bool>>,
    asked: Arc<Mutex<Vec<Instant>>>,
}

impl Simulated {
    fn new(life: Duration) -> Self {
        let ca = Arc::new(TestCa::new("root"));
        Self { ca, clock: simulated_clock(), life, down: Arc::default(), asked: Arc::default() }
    }

    fn start(&self) -> HeldCertificate {
        let (rotation, held) = Rotation::new(self.clone(), self.clock.clone());
        tokio::spawn(rotation.run());
        held
    }

    fn set_down(&self, down: bool) {
        *self.down.lock().unwrap() = down;
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

impl Issue for Simulated {
    type Error = &'static str;

    fn is_denial(error: &&'static str) -> bool {
        *error == "denied"
    }

    async fn issue(&self, _: Option<&Svid>, _: u32) -> Result<Svid, Self::Error> {
        self.asked.lock().unwrap().push(Instant::now());
        if *self.down.lock().unwrap() {
            return Err("no answer");
        }
        Ok(self.ca.svid((self.clock)(), self.life))
    }
}

async fn newer(held: &mut HeldCertificate) -> Arc<Svid> {
    held.svid.changed().await.unwrap();
    held.svid.borrow_and_update().clone().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_certificate_is_renewed_at_about_half_of_its_life() {
    let issuer = Simulated::new(DAY);
    let mut held = issuer.start();
    let first = newer(&mut held).await;
    for _ in 0..5 {
        let obtained = Instant::now();
        assert_ne!(newer(&mut held).await.serial, first.serial);
        let share = obtained.elapsed().as_secs_f64() / DAY.as_secs_f64();
        assert!((0.449..0.551).contains(&share), "renewed after {share} of the life");
    }
    assert_eq!(held.counters.issued.load(Ordering::Relaxed), 6);
    assert_eq!(held.counters.failed.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn the_first_certificate_is_asked_for_until_it_comes() {
    let issuer = Simulated::new(DAY);
    issuer.set_down(true);
    let mut held = issuer.start();
    tokio::time::sleep(10 * MINUTE).await;
    assert!(held.svid.borrow().is_none());
    assert!(held.failure.borrow().as_ref().unwrap().to_string().contains("no answer"));
    // Full jitter up to 15 s: 7.6 s in the mean.
    assert!((40..300).contains(&issuer.asked()), "{} attempts in ten minutes", issuer.asked());
    issuer.set_down(false);
    timeout(Duration::from_secs(15), newer(&mut held)).await.unwrap();
    assert!(held.failure.borrow().is_none());
}

#[tokio::test(start_paused = true)]
async fn the_last_certificate_stays_while_the_ca_is_away() {
    let issuer = Simulated::new(HOUR);
    let mut held = issuer.start();
    let serial = newer(&mut held).await.serial.clone();
    issuer.set_down(true);
    tokio::time::sleep(50 * MINUTE).await;
    assert_eq!(held.svid.borrow().as_ref().unwrap().serial, serial);
    assert!(held.counters.failed.load(Ordering::Relaxed) > 50);
    issuer.set_down(false);
    timeout(Duration::from_secs(15), newer(&mut held)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_expired_certificate_is_renewed_within_two_seconds_of_the_cas_return() {
    let issuer = Simulated::new(HOUR);
    let mut held = issuer.start();
    newer(&mut held).await;
    issuer.set_down(true);
    tokio::time::sleep(2 * DAY).await;
    assert!(held.svid.borrow_and_update().as_ref().unwrap().expired((issuer.clock)()));
    issuer.set_down(false);
    let renewed = timeout(Duration::from_secs(2), newer(&mut held)).await.unwrap();
    assert!(!renewed.expired((issuer.clock)()));
}

#[test]
fn random_values_spread_over_the_unit_interval() {
    let values: Vec<f64> = (0..1000).map(|_| random()).collect();
    assert!(values.iter().all(|value| (0.0..1.0).contains(value)));
    let mean = values.iter().sum::<f64>() / 1000.0;
    assert!((0.4..0.6).contains(&mean), "{mean}");
}
