//! Tensors, model import and the Backend, Model and Session traits
