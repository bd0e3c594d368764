//! The order of sixteen elements of K in which as few pairs of weights as possible are too great.

use super::{layout::SHUFFLED, pack::MOST_OF_PAIR};

/// Steps of the search for one order.
const MOST_STEPS: usize = 64;

/// Elements are numbered in bytes.
const ELEMENTS: u8 = SHUFFLED as u8;

/// For each place of the order, the element there; the weights are those of the panel's columns, element by element.
pub(super) fn of_block(weights: &[&[i16]; SHUFFLED]) -> [u8; SHUFFLED] {
    let mut pairs = Pairs { weights, known: [0; SHUFFLED], fitting: [0; SHUFFLED] };
    let mut order = std::array::from_fn(|place| place as u8);
    if pairs.repair(&mut order) {
        return order;
    }
    for a in 0..ELEMENTS {
        (a + 1..ELEMENTS).for_each(|b| {
            pairs.fit(a, b);
        });
    }
    let partners = pairs.fitting;
    let alone = partners.iter().filter(|partners| **partners == 0).count();
    let most = (SHUFFLED - alone) / 2;
    let mut search = Search { partners, most, best: Vec::new(), pairs: Vec::new(), steps: 0 };
    search.visit(u16::MAX);
    ordered(&search.best)
}

/// Whether the sums of two elements' weights are small enough in every column.
pub(super) fn fit(a: &[i16], b: &[i16]) -> bool {
    const AT_ONCE: usize = 8;
    let misfit =
        |a: i16, b: i16| a.wrapping_add(b).wrapping_add(MOST_OF_PAIR) as u16 > 2 * MOST_OF_PAIR as u16;
    let mut misfits = [0u16; AT_ONCE];
    let (a, a_rest) = a.as_chunks::<AT_ONCE>();
    let (b, b_rest) = b.as_chunks::<AT_ONCE>();
    for (a, b) in a.iter().zip(b) {
        for lane in 0..AT_ONCE {
            misfits[lane] |= u16::from(misfit(a[lane], b[lane]));
        }
    }
    misfits == [0; AT_ONCE] && !a_rest.iter().zip(b_rest).any(|(a, b)| misfit(*a, *b))
}

/// Which elements fit with which, as far as somebody asked.
struct Pairs<'a> {
    weights: &'a [&'a [i16]; SHUFFLED],
    known: [u16; SHUFFLED],
    fitting: [u16; SHUFFLED],
}

impl Pairs<'_> {
    fn fit(&mut self, a: u8, b: u8) -> bool {
        let (first, second) = (usize::from(a), usize::from(b));
        if self.known[first] >> b & 1 == 0 {
            let fits = u16::from(fit(self.weights[first], self.weights[second]));
            self.known[first] |= 1 << b;
            self.known[second] |= 1 << a;
            self.fitting[first] |= fits << b;
            self.fitting[second] |= fits << a;
        }
        self.fitting[first] >> b & 1 == 1
    }

    /// Exchanges elements between the pairs that do not fit and others until all fit; false where that does not help. Most blocks need
    /// little of it, which spares the search.
    fn repair(&mut self, order: &mut [u8; SHUFFLED]) -> bool {
        for at in (0..SHUFFLED).step_by(2) {
            let mut fits = self.fit(order[at], order[at + 1]);
            for other in (0..SHUFFLED).step_by(2).filter(|other| *other != at) {
                if fits {
                    break;
                }
                let ([a, b], [c, d]) = ([order[at], order[at + 1]], [order[other], order[other + 1]]);
                // Pairs to come may still be wrong: only those before must stay right.
                let later = other > at;
                if self.fit(a, c) && (later || self.fit(b, d)) {
                    (order[at + 1], order[other]) = (c, b);
                    fits = true;
                } else if self.fit(a, d) && (later || self.fit(c, b)) {
                    (order[at + 1], order[other + 1]) = (d, b);
                    fits = true;
                }
            }
            if !fits {
                return false;
            }
        }
        true
    }
}

/// Fitting pairs first, the others after them, so that the misfits share entries.
fn ordered(pairs: &[(u8, u8)]) -> [u8; SHUFFLED] {
    let paired = pairs.iter().flat_map(|pair| [pair.0, pair.1]);
    let mut order = [0; SHUFFLED];
    let alone = (0..ELEMENTS).filter(|k| !pairs.iter().any(|pair| pair.0 == *k || pair.1 == *k));
    for (place, k) in order.iter_mut().zip(paired.chain(alone)) {
        *place = k;
    }
    order
}

/// A search for the most fitting pairs, those with the fewest choices first.
struct Search {
    /// For each element, those that it fits with.
    partners: [u16; SHUFFLED],
    /// No more pairs than these can fit.
    most: usize,
    best: Vec<(u8, u8)>,
    pairs: Vec<(u8, u8)>,
    steps: usize,
}

impl Search {
    /// Goes on with the elements of `free`; true once as many are paired as can be.
    fn visit(&mut self, free: u16) -> bool {
        self.steps += 1;
        if self.pairs.len() > self.best.len() {
            self.best.clone_from(&self.pairs);
        }
        if self.pairs.len() == self.most {
            return true;
        }
        let choices = |k: u8| (self.partners[usize::from(k)] & free).count_ones();
        let elements = |set: u16| (0..ELEMENTS).filter(move |k| set >> k & 1 == 1);
        let Some(first) = elements(free).filter(|k| choices(*k) > 0).min_by_key(|k| choices(*k)) else {
            return false;
        };
        let mut others = [(0, 0); SHUFFLED];
        let mut count = 0;
        for other in elements(self.partners[usize::from(first)] & free) {
            others[count] = (choices(other), other);
            count += 1;
        }
        others[..count].sort_unstable();
        for (_, other) in &others[..count] {
            if self.steps > MOST_STEPS {
                return true;
            }
            self.pairs.push((first, *other));
            if self.visit(free & !(1 << first | 1 << other)) {
                return true;
            }
            self.pairs.pop();
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order_of(weights: [Vec<i16>; SHUFFLED]) -> [u8; SHUFFLED] {
        of_block(&std::array::from_fn(|k| &weights[k][..]))
    }

    #[test]
    fn great_weights_are_paired_with_small_ones() {
        for columns in [3, 8, 20] {
            let order = order_of(std::array::from_fn(|k| vec![if k < 8 { 127 } else { 1 }; columns]));
            let mut elements = order;
            elements.sort_unstable();
            assert_eq!(elements, std::array::from_fn(|k| k as u8));
            assert!(order.chunks(2).all(|pair| (pair[0] < 8) != (pair[1] < 8)), "{order:?}");
        }
    }

    #[test]
    fn what_fits_stays_and_one_misfit_is_repaired() {
        let small: [Vec<i16>; SHUFFLED] = std::array::from_fn(|k| vec![k as i16; 16]);
        let identity: [u8; SHUFFLED] = std::array::from_fn(|k| k as u8);
        assert_eq!(order_of(small.clone()), identity);
        let mut one = small;
        one[14][3] = -100;
        one[15][3] = -100;
        let order = order_of(one.clone());
        assert!(order.chunks(2).all(|pair| fit(&one[usize::from(pair[0])], &one[usize::from(pair[1])])));
    }

    #[test]
    fn a_hopeless_block_keeps_all_its_elements() {
        let mut order = order_of(std::array::from_fn(|_| vec![-128]));
        order.sort_unstable();
        assert_eq!(order, std::array::from_fn(|k| k as u8));
    }
}
