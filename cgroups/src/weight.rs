//! Conversions between the weights of v1 and v2.
//!
//! Leaves out: ranges are checked in `limits`. Needs no kernel.

/// v1 `cpu.shares` (2 to 262144) as v2 `cpu.weight` (1 to 10000).
///
/// The linear formula of older runtimes maps the default 1024 to 39, though the v2 default is 100, and so gives a container
/// less than half of what its neighbours get. The quadratic one in use since 2025 (the OCI runtimes agreed on it) fits the two minima, defaults
/// and maxima: with `l = log2(shares)`, `weight = ceil(10^((l² + 125 l)/612 − 7/34))`.
pub(crate) fn shares_to_weight(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let l = (shares as f64).log2();
            let weight = 10f64.powf((l * l + 125.0 * l) / 612.0 - 7.0 / 34.0).ceil();
            (weight as u64).clamp(1, 10_000)
        }
    }
}

/// v2 `cpu.weight` as v1 `cpu.shares`: the same curve, read the other way.
pub(crate) fn weight_to_shares(weight: u64) -> u64 {
    let exponent = 612.0 * ((weight.clamp(1, 10_000) as f64).log10() + 7.0 / 34.0);
    let l = ((15_625.0 + 4.0 * exponent).sqrt() - 125.0) / 2.0;
    (l.exp2().round() as u64).clamp(2, 262_144)
}

/// v1 `blkio.weight` (10 to 1000) as v2 `io.weight` (1 to 10000), linear as in the OCI runtimes.
pub(crate) fn blkio_to_io(weight: u64) -> u64 {
    1 + (weight.clamp(10, 1000) - 10) * 9999 / 990
}

/// v2 `io.weight` as v1 `blkio.weight`, the nearest value.
pub(crate) fn io_to_blkio(weight: u64) -> u64 {
    10 + ((weight.clamp(1, 10_000) - 1) * 990 + 9999 / 2) / 9999
}

/// v2 `io.weight` for the BFQ scheduler's own files (1 to 1000): its default 100 is also the default of `io.weight`.
pub(crate) fn io_to_bfq(weight: u64) -> u64 {
    if weight <= 100 { weight.max(1) } else { (100 + (weight - 100) * 900 / 9900).min(1000) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_follow_the_quadratic_curve() {
        let known = [(2, 1), (4, 2), (100, 17), (512, 59), (1024, 100), (2048, 174), (4096, 303), (262_144, 10_000)];
        for (shares, weight) in known {
            assert_eq!(shares_to_weight(shares), weight, "{shares}");
        }
        assert_eq!(shares_to_weight(0), 1);
        assert_eq!(shares_to_weight(u64::MAX), 10_000);
    }

    #[test]
    fn weights_lead_back_to_shares() {
        for (weight, shares) in [(1, 2), (100, 1024), (10_000, 262_144)] {
            assert_eq!(weight_to_shares(weight), shares, "{weight}");
        }
        for weight in 1..=10_000u64 {
            let back = shares_to_weight(weight_to_shares(weight));
            assert!(back.abs_diff(weight) <= 1 + weight / 10, "{weight} became {back}");
        }
    }

    #[test]
    fn io_weights_keep_their_ends_and_order() {
        assert_eq!((blkio_to_io(10), blkio_to_io(1000)), (1, 10_000));
        assert_eq!((io_to_blkio(1), io_to_blkio(10_000)), (10, 1000));
        assert_eq!((io_to_bfq(1), io_to_bfq(100), io_to_bfq(10_000)), (1, 100, 1000));
        for weight in 10..=1000 {
            assert_eq!(io_to_blkio(blkio_to_io(weight)), weight);
        }
        assert!((1..10_000).all(|w| io_to_bfq(w) <= io_to_bfq(w + 1)));
    }
}
