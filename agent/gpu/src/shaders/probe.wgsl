// Arithmetic that exact results rest on: products and conversions of integers rounded half to even. For each pair of words, an integer
// and the bits of a factor, the bits of their rounded product and the nearest integer of it.

@compute @workgroup_size(WIDTH)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let unit = unit_of(group, groups, local);
    if unit < units {
        let sum = bitcast<i32>(arena[at.x + unit]);
        let product = f32(sum) * bitcast<f32>(arena[at.y + unit]);
        arena[at.out + unit * 2u] = bitcast<u32>(product);
        arena[at.out + unit * 2u + 1u] = bitcast<u32>(i32(round(clamp(product, -300.0, 300.0))));
    }
}
