// Images of f32 at another size, mixed from four neighbours. The kernel's constants have a vector for each output row, then for each
// output column: two of the input, and their weights.

override in_h: u32;
override in_w: u32;
override out_h: u32;
override out_w: u32;
override channels: u32;

@compute @workgroup_size(WIDTH)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let unit = unit_of(group, groups, local);
    if unit >= units {
        return;
    }
    let channel = unit % channels;
    let pixel = unit / channels;
    let line = pixel / out_w;
    let y = constants[at.constants + line % out_h];
    let x = constants[at.constants + out_h + pixel % out_w];
    let image = line / out_h * in_h;
    let top = (image + y.x) * in_w;
    let bottom = (image + y.y) * in_w;
    let down = bitcast<vec2<f32>>(y.zw);
    let across = bitcast<vec2<f32>>(x.zw);
    let result = read_float(at.x, (top + x.x) * channels + channel) * (down.x * across.x)
        + read_float(at.x, (top + x.y) * channels + channel) * (down.x * across.y)
        + read_float(at.x, (bottom + x.x) * channels + channel) * (down.y * across.x)
        + read_float(at.x, (bottom + x.y) * channels + channel) * (down.y * across.y);
    arena[at.out + unit] = bitcast<u32>(result);
}
