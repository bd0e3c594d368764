// Products of stacks of f32 matrices: each invocation makes four columns of four rows.

override m: u32;
override k: u32;
override n: u32;
// Elements between matrices of the operands; 0 where there is one.
override a_step: u32;
override b_step: u32;
// Fours of rows and of columns, the last ones incomplete.
override row_blocks: u32;
override column_blocks: u32;

fn store(matrix: u32, row: u32, column: u32, sums: vec4<f32>) {
    if row >= m {
        return;
    }
    let start = at.out + (matrix * m + row) * n + column;
    let count = min(n - column, 4u);
    arena[start] = bitcast<u32>(sums.x);
    if count > 1u {
        arena[start + 1u] = bitcast<u32>(sums.y);
    }
    if count > 2u {
        arena[start + 2u] = bitcast<u32>(sums.z);
    }
    if count > 3u {
        arena[start + 3u] = bitcast<u32>(sums.w);
    }
}

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
    let column = unit % column_blocks * 4u;
    let row = unit / column_blocks % row_blocks * 4u;
    let matrix = unit / column_blocks / row_blocks;
    // Beyond the last row and column, those are read again and the results dropped.
    let rows = min(vec4<u32>(row) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(m - 1u));
    let columns = min(vec4<u32>(column) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(n - 1u));
    let lines = vec4<u32>(at.x + matrix * a_step) + rows * k;
    var places = vec4<u32>(at.y + matrix * b_step) + columns;
    var a = vec4<f32>(0.0);
    var b = vec4<f32>(0.0);
    var c = vec4<f32>(0.0);
    var d = vec4<f32>(0.0);
    for (var i = 0u; i < k; i++) {
        let y = bitcast<vec4<f32>>(vec4<u32>(arena[places.x], arena[places.y], arena[places.z], arena[places.w]));
        places += vec4<u32>(n);
        a += bitcast<f32>(arena[lines.x + i]) * y;
        b += bitcast<f32>(arena[lines.y + i]) * y;
        c += bitcast<f32>(arena[lines.z + i]) * y;
        d += bitcast<f32>(arena[lines.w + i]) * y;
    }
    store(matrix, row, column, a);
    store(matrix, row + 1u, column, b);
    store(matrix, row + 2u, column, c);
    store(matrix, row + 3u, column, d);
}
