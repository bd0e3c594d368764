// Sixteen pixels for all lanes of a subgroup: each lane reads two of them, and has the others from its neighbours. Subgroups have eight
// lanes or more; which channels a lane makes is all that sets it apart.

// Sixteens of output pixels, the last one incomplete, and vectors of four output channels.
override tiles: u32;
override columns: u32;

// What a lane makes.
struct Share {
    // The first of sixteen pixels; none where there is nothing left to do.
    first: u32,
    some: bool,
    // Four channels; the last ones again, and not to be stored, where there are none left for the lane.
    block: u32,
    stores: bool,
}

// `unit` counts subgroups.
fn share(unit: u32, size: u32, lane: u32) -> Share {
    let across = (columns + size - 1u) / size;
    let column = unit % across * size + lane;
    let tile = unit / across;
    return Share(tile * 16u, tile < tiles, min(column, columns - 1u), column < columns);
}

struct Corner {
    image: vec2<u32>,
    top: vec2<i32>,
    left: vec2<i32>,
}

// The top left of the windows of the two pixels that a lane reads.
fn corner(first: u32, lane: u32) -> Corner {
    let pixel = min(vec2<u32>(first + (lane & 7u)) + vec2<u32>(0u, 8u), vec2<u32>(pixels - 1u));
    let line = pixel / out_w;
    var found: Corner;
    found.image = line / out_h;
    found.top = vec2<i32>((line % out_h) * stride_h) - i32(pad_top);
    found.left = vec2<i32>((pixel % out_w) * stride_w) - i32(pad_left);
    return found;
}

struct Tap {
    pixel: vec2<u32>,
    inside: vec2<bool>,
}

fn tap(window: Corner, ky: u32, kx: u32) -> Tap {
    let y = window.top + i32(ky * dilation_h);
    let x = window.left + i32(kx * dilation_w);
    var found: Tap;
    found.inside = vec2<bool>(true);
    if padded {
        found.inside = (vec2<u32>(y) < vec2<u32>(in_h)) & (vec2<u32>(x) < vec2<u32>(in_w));
    }
    let pixel = (window.image * in_h + vec2<u32>(y)) * in_w + vec2<u32>(x);
    found.pixel = select(vec2<u32>(0u), pixel, found.inside);
    return found;
}

// The words of the first four lanes, and of the next four.
fn lower_four(word: u32) -> vec4<u32> {
    return vec4<u32>(
        subgroupBroadcast(word, 0u),
        subgroupBroadcast(word, 1u),
        subgroupBroadcast(word, 2u),
        subgroupBroadcast(word, 3u),
    );
}

fn upper_four(word: u32) -> vec4<u32> {
    return vec4<u32>(
        subgroupBroadcast(word, 4u),
        subgroupBroadcast(word, 5u),
        subgroupBroadcast(word, 6u),
        subgroupBroadcast(word, 7u),
    );
}
