// Convolution of f32, dense: each lane of a subgroup makes four channels of sixteen pixels.

@compute @workgroup_size(WIDTH)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) subgroups: u32,
    @builtin(subgroup_size) size: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let own = share((group.y * groups.x + group.x) * subgroups + subgroup, size, lane);
    if !own.some {
        return;
    }
    let window = corner(own.first, lane);
    var weights = at.constants + own.block;
    var a: Sums;
    var b: Sums;
    var c: Sums;
    var d: Sums;
    for (var ky = 0u; ky < kernel_h; ky++) {
        for (var kx = 0u; kx < kernel_w; kx++) {
            let place = tap(window, ky, kx);
            let line = vec2<u32>(at.x) + place.pixel * in_channels;
            for (var k = 0u; k < in_channels; k++) {
                let w = bitcast<vec4<f32>>(constants[weights]);
                weights += columns;
                let read = vec2<u32>(arena[line.x + k], arena[line.y + k]);
                let words = select(vec2<u32>(0u), read, place.inside);
                add(&a, bitcast<vec4<f32>>(lower_four(words.x)), w);
                add(&b, bitcast<vec4<f32>>(upper_four(words.x)), w);
                add(&c, bitcast<vec4<f32>>(lower_four(words.y)), w);
                add(&d, bitcast<vec4<f32>>(upper_four(words.y)), w);
            }
        }
    }
    if own.stores {
        store(own.first, own.block, a);
        store(own.first + 4u, own.block, b);
        store(own.first + 8u, own.block, c);
        store(own.first + 12u, own.block, d);
    }
}
