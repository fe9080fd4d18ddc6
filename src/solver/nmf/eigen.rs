//! Eigenvalues of a small symmetric matrix.

/// The smallest and the largest eigenvalue of a symmetric matrix of size x size, by Jacobi's rotations in a fixed order
/// (Golub and Van Loan: Matrix computations, section 8.5), to rounding.
pub fn extreme_eigenvalues(mut matrix: Vec<f64>, size: usize) -> (f64, f64) {
    let total: f64 = matrix.iter().map(|x| x * x).sum();
    // Converges quadratically: a matrix takes some ten sweeps, and rounding ends them all the same.
    for _ in 0..60 {
        let off_diagonal: f64 = (0..size)
            .flat_map(|i| (0..i).map(move |j| (i, j)))
            .map(|(i, j)| matrix[i * size + j] * matrix[i * size + j])
            .sum();
        if off_diagonal <= 1e-32 * total {
            break;
        }
        for p in 0..size {
            for q in p + 1..size {
                rotate(&mut matrix, size, p, q);
            }
        }
    }
    let diagonal = (0..size).map(|i| matrix[i * size + i]);
    diagonal.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| {
        (low.min(x), high.max(x))
    })
}

/// Turns the plane of p and q so that the entry between them vanishes.
fn rotate(matrix: &mut [f64], size: usize, p: usize, q: usize) {
    let at = |i: usize, j: usize| i * size + j;
    let between = matrix[at(p, q)];
    if between == 0.0 {
        return;
    }
    let theta = (matrix[at(q, q)] - matrix[at(p, p)]) / (2.0 * between);
    let tangent = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
    let cosine = 1.0 / (tangent * tangent + 1.0).sqrt();
    let sine = tangent * cosine;
    for k in 0..size {
        let (x, y) = (matrix[at(k, p)], matrix[at(k, q)]);
        matrix[at(k, p)] = cosine * x - sine * y;
        matrix[at(k, q)] = sine * x + cosine * y;
    }
    for k in 0..size {
        let (x, y) = (matrix[at(p, k)], matrix[at(q, k)]);
        matrix[at(p, k)] = cosine * x - sine * y;
        matrix[at(q, k)] = sine * x + cosine * y;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The path of n points has the eigenvalues `2 - 2 cos(pi k / (n + 1))`.
    #[test]
    fn the_eigenvalues_of_a_path_are_known() {
        for size in [1, 2, 3, 10, 33] {
            let mut path = vec![0.0; size * size];
            for i in 0..size {
                path[i * size + i] = 2.0;
                if i > 0 {
                    path[i * size + i - 1] = -1.0;
                    path[(i - 1) * size + i] = -1.0;
                }
            }
            let (low, high) = extreme_eigenvalues(path, size);
            let known =
                |k: usize| 2.0 - 2.0 * (std::f64::consts::PI * k as f64 / (size + 1) as f64).cos();
            assert!((low - known(1)).abs() < 1e-13, "{size}: {low}");
            assert!((high - known(size)).abs() < 1e-13, "{size}: {high}");
        }
    }

    #[test]
    fn equal_diagonals_and_zeros_are_no_trouble() {
        let (low, high) = extreme_eigenvalues(vec![1.0, 0.5, 0.5, 1.0], 2);
        assert!((low - 0.5).abs() < 1e-15 && (high - 1.5).abs() < 1e-15);
        assert_eq!(extreme_eigenvalues(vec![0.0; 9], 3), (0.0, 0.0));
    }
}
