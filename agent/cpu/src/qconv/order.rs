//! The order of sixteen elements of K in which as few pairs of weights as possible are too great.

use super::{layout::SHUFFLED, pack::MOST_OF_PAIR};

/// Steps of the search for one order.
const MOST_STEPS: usize = 64;

/// For each place of the order, the element there; the weights are those of the panel's columns, element by element.
pub(super) fn of_block(weights: &[Vec<i16>; SHUFFLED]) -> [u8; SHUFFLED] {
    let mut partners = [0u16; SHUFFLED];
    for a in 0..SHUFFLED {
        for b in a + 1..SHUFFLED {
            let sums = weights[a].iter().zip(&weights[b]).map(|(a, b)| a + b);
            let (least, most) = sums.fold((0, 0), |(least, most), sum| (sum.min(least), sum.max(most)));
            if least >= -MOST_OF_PAIR && most <= MOST_OF_PAIR {
                partners[a] |= 1 << b;
                partners[b] |= 1 << a;
            }
        }
    }
    let mut search = Search { partners, best: Vec::new(), pairs: Vec::new(), steps: 0 };
    search.visit(u16::MAX);
    order(&search.best)
}

/// Fitting pairs first, the others after them, so that the misfits share entries.
fn order(pairs: &[(u8, u8)]) -> [u8; SHUFFLED] {
    let paired = pairs.iter().flat_map(|pair| [pair.0, pair.1]);
    let mut order = [0; SHUFFLED];
    let alone = (0..SHUFFLED as u8).filter(|k| !pairs.iter().any(|pair| pair.0 == *k || pair.1 == *k));
    for (place, k) in order.iter_mut().zip(paired.chain(alone)) {
        *place = k;
    }
    order
}

/// A search for the most fitting pairs, those with the fewest choices first.
struct Search {
    /// For each element, those that it fits with.
    partners: [u16; SHUFFLED],
    best: Vec<(u8, u8)>,
    pairs: Vec<(u8, u8)>,
    steps: usize,
}

impl Search {
    /// Goes on with the elements of `free`; true once all are paired.
    fn visit(&mut self, free: u16) -> bool {
        self.steps += 1;
        if self.pairs.len() > self.best.len() {
            self.best.clone_from(&self.pairs);
        }
        let elements = |set: u16| (0..SHUFFLED as u8).filter(move |k| set >> k & 1 == 1);
        let choices = |k: u8| (self.partners[k as usize] & free).count_ones();
        let Some(first) = elements(free).filter(|k| choices(*k) > 0).min_by_key(|k| choices(*k)) else {
            return self.pairs.len() == SHUFFLED / 2;
        };
        let mut others: Vec<u8> = elements(self.partners[first as usize] & free).collect();
        others.sort_by_key(|k| choices(*k));
        for other in others {
            if self.steps > MOST_STEPS {
                return true;
            }
            self.pairs.push((first, other));
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

    #[test]
    fn great_weights_are_paired_with_small_ones() {
        let order = of_block(&std::array::from_fn(|k| vec![if k < 8 { 127 } else { 1 }; 3]));
        let mut elements = order;
        elements.sort_unstable();
        assert_eq!(elements, std::array::from_fn(|k| k as u8));
        assert!(order.chunks(2).all(|pair| (pair[0] < 8) != (pair[1] < 8)), "{order:?}");
    }

    #[test]
    fn a_hopeless_block_keeps_all_its_elements() {
        let mut order = of_block(&std::array::from_fn(|_| vec![-128]));
        order.sort_unstable();
        assert_eq!(order, std::array::from_fn(|k| k as u8));
    }
}
