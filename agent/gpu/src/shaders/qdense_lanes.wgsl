// Convolution of bytes, dense: each lane of a subgroup makes four channels of sixteen pixels.

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
            let line = vec2<u32>(at.x) + place.pixel * in_words;
            for (var k = 0u; k < in_words; k++) {
                let read = vec2<u32>(arena[line.x + k], arena[line.y + k]);
                // Unsigned bytes less 128 are int8.
                let words = select(vec2<u32>(zero_word), read, place.inside) ^ vec2<u32>(0x80808080u);
                for (var part = 0u; part < parts; part++) {
                    let w = constants[weights];
                    weights += columns;
                    add(&a, lower_four(words.x), w);
                    add(&b, upper_four(words.x), w);
                    add(&c, lower_four(words.y), w);
                    add(&d, upper_four(words.y), w);
                }
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
