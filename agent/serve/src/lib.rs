//! Open Inference Protocol front ends
