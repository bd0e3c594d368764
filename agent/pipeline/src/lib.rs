//! Declarative pre- and post-processing that travels with the model
