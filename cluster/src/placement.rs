//! Which node a room or a user lives on: rendezvous hashing. No coordinator, no table, nothing to exchange.
//!
//! Every node draws a number for each pair of a key and a node, and the node with the highest number is the key's home.
//! So all nodes with the same view agree, a node that goes moves only its own keys, and one that comes takes its share
//! from all others evenly.
//!
//! The number depends on the node's *id*, not on its generation: a node that starts again gets its keys back.

use actors::PeerId;

use crate::{
    NodeName,
    mix::{halves, mix},
};

/// A node that keys can be placed on.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Its name in this life.
    pub name: NodeName,
    /// Its share of the keys against the weights of the others, above 0 and finite. A node with another weight is no
    /// candidate. 1 where nodes are alike.
    pub weight: f64,
}

impl Candidate {
    /// A node like all others.
    pub fn new(name: NodeName) -> Self {
        Self { name, weight: 1.0 }
    }
}

/// The homes of all keys under one view of the nodes. Built anew when the view changes; equal to another if they place
/// every key alike and on the same lives.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Placement {
    /// In order of their ids, which breaks ties alike everywhere.
    nodes: Vec<Node>,
    /// Whether weights matter. Alike nodes compare whole numbers: cheaper, and exact on every machine.
    weighted: bool,
}

#[derive(Debug, Clone, PartialEq)]
struct Node {
    seed: [u64; 2],
    weight: f64,
    peer: PeerId,
}

impl Placement {
    /// A placement over these nodes, in whatever order. Of several lives of one node the latest counts.
    pub fn new(candidates: impl IntoIterator<Item = Candidate>) -> Self {
        let usable = |node: &Candidate| node.weight.is_finite() && node.weight > 0.0;
        let mut candidates: Vec<_> = candidates.into_iter().filter(usable).collect();
        candidates
            .sort_by(|a, b| (a.name.id(), b.name.generation()).cmp(&(b.name.id(), a.name.generation())));
        candidates.dedup_by(|later, first| later.name.id() == first.name.id());
        let nodes: Vec<_> = candidates.iter().map(Node::new).collect();
        let weighted = nodes.windows(2).any(|pair| pair[0].weight != pair[1].weight);
        Self { nodes, weighted }
    }

    /// The node that the key of a room or a user is placed on; `None` if there is none.
    pub fn home(&self, key: u128) -> Option<PeerId> {
        let key = halves(key);
        let home = if self.weighted {
            highest(&self.nodes, |node| node.weighted_draw(key))
        } else {
            highest(&self.nodes, |node| node.draw(key))
        };
        home.map(|node| node.peer)
    }

    /// How many nodes there are to choose from.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }
}

/// The first with the highest draw.
fn highest<D: PartialOrd>(nodes: &[Node], draw: impl Fn(&Node) -> D) -> Option<&Node> {
    let mut drawn = nodes.iter().map(|node| (draw(node), node));
    let first = drawn.next()?;
    Some(drawn.fold(first, |best, next| if next.0 > best.0 { next } else { best }).1)
}

impl Node {
    fn new(candidate: &Candidate) -> Self {
        let hash = blake3::derive_key("rookery 2026-11 placement", candidate.name.id().as_bytes());
        let mut seed = [0; 16];
        seed.copy_from_slice(&hash[..16]);
        Self {
            seed: halves(u128::from_le_bytes(seed)),
            weight: candidate.weight,
            peer: candidate.name.peer(),
        }
    }

    fn draw(&self, [high, low]: [u64; 2]) -> u64 {
        mix(mix(low ^ self.seed[1]).wrapping_add(high ^ self.seed[0]))
    }

    /// With a draw `u` evenly from 0 to 1, `-w / ln u` is highest at each node in proportion to its weight, and changing
    /// one weight moves keys only to or from that node.
    fn weighted_draw(&self, key: [u64; 2]) -> f64 {
        // The upper 53 bits and a half: never 0 and never 1.
        let even = ((self.draw(key) >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        -self.weight / even.ln()
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, time::Instant};

    use super::*;
    use crate::mix::Dice;

    const KEYS: usize = 20_000;

    fn node(index: usize, generation: u64) -> Candidate {
        Candidate::new(NodeName::new(&format!("rookery-{index}"), generation).unwrap())
    }

    fn placement(count: usize) -> Placement {
        Placement::new((0..count).map(|index| node(index, 1)))
    }

    fn keys() -> impl Iterator<Item = u128> {
        let mut dice = Dice::new(7);
        std::iter::repeat_with(move || u128::from(dice.next()) << 64 | u128::from(dice.next())).take(KEYS)
    }

    fn shares(placement: &Placement) -> HashMap<PeerId, usize> {
        let mut shares = HashMap::new();
        keys().for_each(|key| *shares.entry(placement.home(key).unwrap()).or_default() += 1);
        shares
    }

    #[test]
    fn nobody_is_home_without_nodes() {
        assert_eq!(Placement::default().home(1), None);
        assert!(Placement::new([Candidate { weight: 0.0, ..node(1, 1) }]).is_empty());
        assert!(Placement::new([Candidate { weight: f64::NAN, ..node(1, 1) }]).is_empty());
    }

    #[test]
    fn the_order_in_which_nodes_are_known_does_not_matter() {
        let backwards = Placement::new((0..9).rev().map(|index| node(index, 1)));
        assert_eq!(backwards, placement(9));
    }

    #[test]
    fn the_homes_are_the_same_in_every_version() {
        let homes: Vec<_> = (0..6).map(|key| placement(5).home(key << 70 | key).unwrap()).collect();
        let index = |peer| (0..5).position(|index| node(index, 1).name.peer() == peer).unwrap();
        assert_eq!(homes.into_iter().map(index).collect::<Vec<_>>(), PINNED_HOMES);
    }

    /// Nodes of two versions that place keys differently would send each other in circles.
    const PINNED_HOMES: [usize; 6] = [2, 4, 1, 3, 0, 3];

    #[test]
    fn a_node_that_starts_again_gets_its_keys_back() {
        let after = Placement::new((0..5).map(|index| node(index, if index == 2 { 9 } else { 1 })));
        let (old, new) = (node(2, 1).name.peer(), node(2, 9).name.peer());
        for key in keys() {
            let before = placement(5).home(key).unwrap();
            assert_eq!(after.home(key).unwrap(), if before == old { new } else { before });
        }
    }

    #[test]
    fn of_two_lives_of_a_node_the_later_counts() {
        let both = Placement::new([node(0, 2), node(1, 1), node(0, 1)]);
        assert_eq!(both, Placement::new([node(0, 2), node(1, 1)]));
    }

    #[test]
    fn a_node_that_goes_moves_only_its_own_keys() {
        let gone = node(3, 1).name.peer();
        let (before, after) = (placement(7), Placement::new((0..7).filter(|i| *i != 3).map(|i| node(i, 1))));
        for key in keys() {
            let home = before.home(key).unwrap();
            assert!(home == gone || after.home(key) == Some(home));
        }
    }

    #[test]
    fn a_node_that_comes_takes_an_even_share() {
        let (before, after) = (placement(9), placement(10));
        let moved = keys().filter(|key| before.home(*key) != after.home(*key)).count();
        assert!((KEYS / 10).abs_diff(moved) < KEYS / 100, "moved {moved} of {KEYS} keys");
    }

    #[test]
    fn nodes_alike_have_even_shares() {
        let even = KEYS / 10;
        for share in shares(&placement(10)).into_values() {
            assert!(share.abs_diff(even) < even / 10, "a share of {share}, not about {even}");
        }
    }

    #[test]
    fn a_weight_is_a_share_and_changing_it_moves_keys_only_there() {
        let heavy = Candidate { weight: 3.0, ..node(1, 1) };
        let weighted = Placement::new([node(0, 1), heavy.clone(), node(2, 1), node(3, 1)]);
        let share = shares(&weighted)[&heavy.name.peer()];
        assert!(share.abs_diff(KEYS / 2) < KEYS / 50, "a share of {share}, not about {}", KEYS / 2);
        for key in keys() {
            let (before, after) = (placement(4).home(key).unwrap(), weighted.home(key).unwrap());
            assert!(after == before || after == heavy.name.peer());
        }
    }

    #[test]
    fn a_look_up_costs_little() {
        for (count, weight) in [(3, 1.0), (10, 1.0), (50, 1.0), (50, 2.0)] {
            let first = Candidate { weight, ..node(0, 1) };
            let placement = Placement::new((1..count).map(|index| node(index, 1)).chain([first]));
            let keys: Vec<_> = keys().collect();
            let start = Instant::now();
            let found = keys.iter().filter_map(|key| placement.home(*key)).count();
            let nanos = start.elapsed().as_nanos() / KEYS as u128;
            assert_eq!(found, KEYS);
            println!("{count} nodes, a weight of {weight}: {nanos} ns per look-up");
        }
    }
}
