// Softmax of rows of f32, or its logarithm: each workgroup makes a row.

override rows: u32;
override row_len: u32;
override logarithm: bool;

var<workgroup> lanes: array<f32, WIDTH>;

fn greatest_of_lanes(local: u32, value: f32) -> f32 {
    lanes[local] = value;
    workgroupBarrier();
    for (var half = WIDTH / 2u; half > 0u; half /= 2u) {
        if local < half {
            lanes[local] = max(lanes[local], lanes[local + half]);
        }
        workgroupBarrier();
    }
    let result = lanes[0];
    workgroupBarrier();
    return result;
}

fn sum_of_lanes(local: u32, value: f32) -> f32 {
    lanes[local] = value;
    workgroupBarrier();
    for (var half = WIDTH / 2u; half > 0u; half /= 2u) {
        if local < half {
            lanes[local] += lanes[local + half];
        }
        workgroupBarrier();
    }
    let result = lanes[0];
    workgroupBarrier();
    return result;
}

@compute @workgroup_size(WIDTH)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    // Workgroups beyond the last row make it once more: every invocation must meet every barrier.
    let row = min(group.y * groups.x + group.x, rows - 1u);
    let start = row * row_len;
    var greatest = -3.4028234e38;
    for (var i = local; i < row_len; i += WIDTH) {
        greatest = max(greatest, read_float(at.x, start + i));
    }
    greatest = greatest_of_lanes(local, greatest);
    var sum = 0.0;
    for (var i = local; i < row_len; i += WIDTH) {
        sum += exp(read_float(at.x, start + i) - greatest);
    }
    sum = sum_of_lanes(local, sum);
    for (var i = local; i < row_len; i += WIDTH) {
        let over = read_float(at.x, start + i) - greatest;
        let result = select(exp(over) / sum, over - log(sum), logarithm);
        arena[at.out + start + i] = bitcast<u32>(result);
    }
}
