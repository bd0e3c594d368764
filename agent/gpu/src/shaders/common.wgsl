// What every kernel shares. All activations of a run lie in one buffer, bound once, for reading and writing: a dispatch reads some
// ranges of it and writes others. Bytes lie four to a word, in the order of their addresses.

struct Places {
    // Words of the arena at which the operands and the result begin.
    x: u32,
    y: u32,
    out: u32,
    // Where the kernel's constants begin, in vectors of four words.
    constants: u32,
}

@group(0) @binding(0) var<storage, read_write> arena: array<u32>;
@group(0) @binding(1) var<storage, read> constants: array<vec4<u32>>;
@group(0) @binding(2) var<uniform> at: Places;

// Invocations of a workgroup.
const WIDTH: u32 = 64u;

// Units of work, one for each invocation; those beyond do nothing.
override units: u32;

fn unit_of(group: vec3<u32>, groups: vec3<u32>, local: u32) -> u32 {
    return (group.y * groups.x + group.x) * WIDTH + local;
}

fn read_byte(start: u32, index: u32) -> u32 {
    return (arena[start + (index >> 2u)] >> ((index & 3u) * 8u)) & 0xffu;
}

fn read_float(start: u32, index: u32) -> f32 {
    return bitcast<f32>(arena[start + index]);
}

// Writes four numbers, or the first `last + 1` of them.
fn write_floats(start: u32, last: u32, numbers: vec4<f32>) {
    let words = bitcast<vec4<u32>>(numbers);
    arena[start] = words.x;
    if last > 0u {
        arena[start + 1u] = words.y;
    }
    if last > 1u {
        arena[start + 2u] = words.z;
    }
    if last > 2u {
        arena[start + 3u] = words.w;
    }
}

// The word at `index` of the kernel's constants.
fn constant_word(index: u32) -> u32 {
    return constants[at.constants + (index >> 2u)][index & 3u];
}

fn constant_byte(start: u32, index: u32) -> u32 {
    return (constant_word(start + (index >> 2u)) >> ((index & 3u) * 8u)) & 0xffu;
}

fn packed(bytes: vec4<u32>) -> u32 {
    return bytes.x | (bytes.y << 8u) | (bytes.z << 16u) | (bytes.w << 24u);
}

fn unpacked(word: u32) -> vec4<u32> {
    return (vec4<u32>(word) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(0xffu);
}
