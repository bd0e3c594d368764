// Where the input pixels of four neighbouring output pixels lie.

override in_h: u32;
override in_w: u32;
override out_h: u32;
override out_w: u32;
override kernel_h: u32;
override kernel_w: u32;
override stride_h: u32;
override stride_w: u32;
override dilation_h: u32;
override dilation_w: u32;
override pad_top: u32;
override pad_left: u32;
// Whether some window reaches beyond the image.
override padded: bool;
// Output pixels of all images.
override pixels: u32;

struct Corners {
    image: vec4<u32>,
    top: vec4<i32>,
    left: vec4<i32>,
}

// The top left of the windows of the output pixels from `first` on; the last one again where there are fewer than four.
fn corners(first: u32) -> Corners {
    let pixel = min(vec4<u32>(first) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(pixels - 1u));
    let line = pixel / out_w;
    var found: Corners;
    found.image = line / out_h;
    found.top = vec4<i32>((line % out_h) * stride_h) - i32(pad_top);
    found.left = vec4<i32>((pixel % out_w) * stride_w) - i32(pad_left);
    return found;
}

struct Taps {
    // Input pixels, counted through all images; 0 where outside.
    pixel: vec4<u32>,
    inside: vec4<bool>,
}

fn taps(windows: Corners, ky: u32, kx: u32) -> Taps {
    let y = windows.top + i32(ky * dilation_h);
    let x = windows.left + i32(kx * dilation_w);
    var found: Taps;
    found.inside = vec4<bool>(true);
    if padded {
        // A negative coordinate is a large unsigned one.
        found.inside = (vec4<u32>(y) < vec4<u32>(in_h)) & (vec4<u32>(x) < vec4<u32>(in_w));
    }
    let pixel = (windows.image * in_h + vec4<u32>(y)) * in_w + vec4<u32>(x);
    found.pixel = select(vec4<u32>(0u), pixel, found.inside);
    return found;
}
