//! Settings to Envoy resources and to our own types, one generator a type.
