// Which elements of two operands meet in an element of the result. The kernel's constants begin with a vector for each axis, slowest
// first: its size in the result, and what to move on in either operand, 0 where it is repeated.

override axes: u32;

struct Meeting {
    x: vec4<u32>,
    y: vec4<u32>,
}

// Of four elements of the result.
fn meeting(index: vec4<u32>) -> Meeting {
    var rest = index;
    var found: Meeting;
    for (var axis = axes; axis > 0u; axis--) {
        let entry = constants[at.constants + axis - 1u];
        // The last axis has all that is left.
        let place = select(rest % entry.x, rest, axis == 1u);
        found.x += place * entry.y;
        found.y += place * entry.z;
        rest /= entry.x;
    }
    return found;
}
