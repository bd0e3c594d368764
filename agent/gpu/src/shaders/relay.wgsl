// Where an element comes from when channels move first or last on the way.

// 0: the order stays, 1: channels come last, 2: channels come first.
override relay: u32;
override image_pixels: u32;
override channels: u32;
override elements: u32;

fn source(index: u32) -> u32 {
    let within = min(index, elements - 1u);
    if relay == 0u {
        return within;
    }
    let size = image_pixels * channels;
    let image = within / size * size;
    let rest = within % size;
    if relay == 1u {
        return image + rest % channels * image_pixels + rest / channels;
    }
    return image + rest % image_pixels * channels + rest / image_pixels;
}
