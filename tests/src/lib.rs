//! Whole-system tests, fakes and goldens.
