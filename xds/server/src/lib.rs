//! xDS on the wire: aggregated and secret discovery streams, state-of-the-world and delta.
