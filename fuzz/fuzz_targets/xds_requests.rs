//! Sequences of requests on one stream: nothing panics, what the stream keeps is bounded by what the client said and by the
//! limits, and the stream comes to rest.
#![no_main]

use std::{sync::Arc, time::Instant};

use eastwest_xds::{EncodedResource, Interest, Request, ResourceSet, Stream, TypeUrl, Variant, View};
use libfuzzer_sys::fuzz_target;

const TYPES: [TypeUrl; 4] = [TypeUrl::CLUSTER, TypeUrl::ENDPOINT, TypeUrl::LISTENER, TypeUrl::SECRET];
const NAMES: [&str; 6] = ["a", "b", "c", "*", "", "long"];
/// The most that the names of a stream may take (XDS.md X55).
const MOST: usize = 32 << 20;

/// Reads what the fuzzer wrote.
struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn byte(&mut self) -> Option<usize> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(usize::from(*first))
    }

    /// A name of the view, or one of up to two kilobytes that is not.
    fn name(&mut self) -> Option<String> {
        let choice = self.byte()?;
        Some(match NAMES.get(choice % 8) {
            Some(&"long") => "x".repeat(self.byte()? * 8),
            Some(name) => (*name).to_owned(),
            None => format!("name-{choice}-{}", self.byte()?),
        })
    }

    fn names(&mut self) -> Option<Vec<String>> {
        let count = self.byte()? % 32;
        (0..count).map(|_| self.name()).collect()
    }

    fn request(&mut self, variant: Variant, nonces: &[String]) -> Option<Request> {
        let kind = self.byte()?;
        let type_url = match TYPES.get(kind % 6) {
            Some(known) => known.as_str().to_owned(),
            None => format!("type.example/{}", kind % 80),
        };
        let choice = self.byte()?;
        let nonce = nonces.get(choice % (nonces.len() + 2)).cloned().unwrap_or_default();
        let error = (choice % 7 == 0).then(|| "e".repeat(choice * 64));
        let interest = match variant {
            Variant::StateOfTheWorld => Interest::Names(self.names()?),
            Variant::Delta => Interest::Change {
                subscribe: self.names()?,
                unsubscribe: self.names()?,
                initial_versions: self.names()?.into_iter().map(|name| (name, "0".repeat(16))).collect(),
            },
        };
        Some(Request { type_url, nonce, error, interest })
    }
}

fn view(body: u8) -> View {
    let set = |type_url: TypeUrl| {
        let resource = |name| Arc::new(EncodedResource::new(type_url.clone(), name, &[body]));
        Arc::new(ResourceSet::new(type_url.clone(), ["a", "b", "c"].map(resource)))
    };
    View::new(TYPES.map(set))
}

fuzz_target!(|bytes: &[u8]| {
    let Some((first, script)) = bytes.split_first() else { return };
    let variant = if first % 2 == 0 { Variant::StateOfTheWorld } else { Variant::Delta };
    let (mut script, mut stream) = (Script(script), Stream::new(variant, "s"));
    let (mut nonces, mut said, now) = (Vec::new(), 0, Instant::now());
    let mut view = view(0);
    while let Some(request) = script.request(variant, &nonces) {
        let names = request.interest.names();
        said += names.iter().map(|name| name.len() + 512).sum::<usize>() + 32 * 512 + 64 * 1024;
        if stream.on_request(request).is_err() {
            return; // the stream ends
        }
        assert!(stream.bytes() <= said.min(MOST), "{} bytes for {said} that were said", stream.bytes());
        if script.0.first().is_some_and(|byte| byte % 5 == 0) {
            view = self::view(script.0[0]);
        }
        let mut responses = 0;
        while let Some(response) = stream.next_response(&view, now) {
            nonces.push(response.nonce.clone());
            responses += 1;
            assert!(responses <= 400, "the stream does not come to rest");
        }
    }
});
