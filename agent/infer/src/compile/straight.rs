//! A graph at concrete shapes: a straight list of nodes whose every value has a known type and shape.
//!
//! Where a shape depends on data (a branch on a computed condition, the number of boxes that a filter keeps), the list
//! ends; once a run has the value or the node's outputs, the walk begins again with that knowledge and skips what was
//! done. A graph without such places is one list.

use super::CompileError;
use crate::{
    datatype::Datatype,
    graph::{Graph, Model, Node},
    limits::ImportLimits,
    rules::{self, Rule, View},
    single::Single,
    tensor::{Tensor, element_count},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

/// Deepest nesting of branches that is followed.
const DEPTH_MAX: usize = 64;

/// A value of the list, by its place in [`Straight::values`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ValueId(pub(crate) usize);

/// A tensor of known type and shape.
#[derive(Debug, Clone)]
pub(crate) struct Value {
    /// Its name, unique in the model: that of an inner graph's value begins with the path of its node.
    pub(crate) name: String,
    pub(crate) datatype: Datatype,
    pub(crate) shape: Vec<usize>,
    /// Its elements, where they do not depend on a run's inputs.
    pub(crate) constant: Option<Arc<Tensor>>,
}

/// A node with its values.
#[derive(Debug, Clone)]
pub(crate) struct Placed {
    /// Its key among those that are done.
    pub(crate) key: String,
    pub(crate) node: Arc<Node>,
    pub(crate) inputs: Vec<Option<ValueId>>,
    pub(crate) outputs: Vec<Option<ValueId>>,
    /// The node compiled by tract, where its shapes came from there.
    pub(crate) single: Option<Arc<Single>>,
}

/// The list.
#[derive(Debug)]
pub(crate) struct Straight {
    pub(crate) values: Vec<Value>,
    pub(crate) nodes: Vec<Placed>,
    /// What it reads, in the order of the [`Ready::Live`] entries of its environment.
    pub(crate) inputs: Vec<ValueId>,
    /// What it answers: the graph's outputs at its end, else what the rest needs.
    pub(crate) outputs: Vec<ValueId>,
    pub(crate) end: End,
}

/// Why the list ends.
#[derive(Debug, Clone)]
pub(crate) enum End {
    /// The graph ends.
    Done,
    /// The rest needs this value's elements.
    Observe(ValueId),
    /// Only running this node tells the shapes of its outputs.
    Dynamic(Box<Placed>),
}

/// What is known of a value before the walk.
#[derive(Debug, Clone)]
pub(crate) enum Ready {
    /// A run gives it.
    Live(Datatype, Vec<usize>),
    /// Its elements.
    Known(Arc<Tensor>),
}

/// What is known before the walk: values by name, and nodes that need not run again.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment {
    pub(crate) ready: BTreeMap<String, Ready>,
    pub(crate) done: BTreeSet<String>,
}

/// Walks a graph.
///
/// # Errors
/// An operator is not supported; shapes contradict each other; a tensor is beyond the limits.
pub(crate) fn straighten(
    model: &Model,
    graph: &Graph,
    environment: &Environment,
    limits: &ImportLimits,
) -> Result<Straight, CompileError> {
    let mut walk = Walk {
        model,
        limits,
        environment,
        values: Vec::new(),
        nodes: Vec::new(),
        inputs: Vec::new(),
        scopes: Vec::new(),
        end: None,
        folded_bytes: 0,
    };
    walk.scopes.push(Scope::default());
    for (name, ready) in &environment.ready {
        walk.take(name, ready)?;
    }
    walk.graph(graph)?;
    walk.finish(graph)
}

/// The key of a node among those that are done.
pub(crate) fn node_key(prefix: &str, node: &Node) -> String {
    let name = node.outputs.iter().find(|name| !name.is_empty()).unwrap_or(&node.name);
    format!("{prefix}{name}")
}

#[derive(Default)]
struct Scope {
    prefix: String,
    names: HashMap<String, ValueId>,
}

struct Walk<'a> {
    model: &'a Model,
    limits: &'a ImportLimits,
    environment: &'a Environment,
    values: Vec<Value>,
    nodes: Vec<Placed>,
    inputs: Vec<ValueId>,
    /// Innermost last.
    scopes: Vec<Scope>,
    end: Option<End>,
    /// Of constants that were computed here.
    folded_bytes: u64,
}

impl Walk<'_> {
    fn take(&mut self, name: &str, ready: &Ready) -> Result<(), CompileError> {
        let id = match ready {
            Ready::Live(datatype, shape) => {
                let id = self.add(name.to_owned(), *datatype, shape.clone(), None)?;
                self.inputs.push(id);
                id
            }
            Ready::Known(tensor) => self.constant(name.to_owned(), Arc::clone(tensor))?,
        };
        // Names of inner graphs are whole paths: no scope of the walk has them by another name.
        if let Some(scope) = self.scopes.first_mut() {
            scope.names.insert(name.to_owned(), id);
        }
        Ok(())
    }

    fn add(
        &mut self,
        name: String,
        datatype: Datatype,
        shape: Vec<usize>,
        constant: Option<Arc<Tensor>>,
    ) -> Result<ValueId, CompileError> {
        let max = self.limits.tensor_elements_max;
        if element_count(&shape).is_none_or(|n| n > max) || shape.len() > self.limits.rank_max {
            let why = format!("{name:?} has shape {shape:?}, at most {max} elements are accepted");
            return Err(CompileError::failed(why));
        }
        // One tensor beyond the budget, and there is no need to plan the rest.
        let elements = element_count(&shape).unwrap_or(0) as u64;
        self.limits.check_memory(elements.saturating_mul(datatype.size_bytes().unwrap_or(1) as u64))?;
        self.values.push(Value { name, datatype, shape, constant });
        Ok(ValueId(self.values.len() - 1))
    }

    fn constant(&mut self, name: String, tensor: Arc<Tensor>) -> Result<ValueId, CompileError> {
        self.add(name, tensor.datatype(), tensor.shape().to_vec(), Some(tensor))
    }

    fn lookup(&self, name: &str) -> Option<ValueId> {
        self.scopes.iter().rev().find_map(|scope| {
            let path = || format!("{}{name}", scope.prefix);
            scope.names.get(name).copied().or_else(|| self.scopes.first()?.names.get(&path()).copied())
        })
    }

    fn prefix(&self) -> &str {
        self.scopes.last().map_or("", |scope| &scope.prefix)
    }

    fn bind(&mut self, name: &str, id: ValueId) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.names.insert(name.to_owned(), id);
        }
    }

    fn graph(&mut self, graph: &Graph) -> Result<(), CompileError> {
        let mut names: Vec<&String> = graph.constants.keys().collect();
        names.sort_unstable();
        for name in names {
            let id = self.constant(format!("{}{name}", self.prefix()), Arc::clone(&graph.constants[name]))?;
            self.bind(name, id);
        }
        for node in &graph.nodes {
            if self.end.is_some() {
                return Ok(());
            }
            self.node(node)?;
        }
        Ok(())
    }

    fn node(&mut self, node: &Arc<Node>) -> Result<(), CompileError> {
        if self.environment.done.contains(&node_key(self.prefix(), node)) {
            return Ok(());
        }
        if node.op == "If" {
            return self.branch(node);
        }
        let mut inputs = Vec::with_capacity(node.inputs.len());
        for name in &node.inputs {
            let id = if name.is_empty() { None } else { Some(self.read(node, name)?) };
            inputs.push(id);
        }
        if let Some(tensor) = (node.op == "Constant").then(|| node.attributes.constant()).flatten() {
            return self.bind_constants(node, vec![tensor]);
        }
        if let Some(same) = self.alias(node, &inputs) {
            node.outputs.iter().take(1).for_each(|name| self.bind(name, same));
            return Ok(());
        }
        self.place(node, inputs)
    }

    fn read(&self, node: &Node, name: &str) -> Result<ValueId, CompileError> {
        self.lookup(name).ok_or_else(|| {
            CompileError::failed(format!("{} reads {name:?}, which nothing made", node.describe()))
        })
    }

    /// Operators that hand their input on as it is.
    fn alias(&self, node: &Node, inputs: &[Option<ValueId>]) -> Option<ValueId> {
        let input = (*inputs.first()?)?;
        let only_output = node.outputs.iter().filter(|name| !name.is_empty()).count() == 1;
        match node.op.as_str() {
            "Identity" => Some(input),
            // Without its mask, dropout at inference is nothing.
            "Dropout" if only_output => {
                let training = inputs.get(2).copied().flatten();
                let off = training.is_none_or(|id| {
                    let constant = self.values[id.0].constant.as_ref();
                    constant.is_some_and(|t| t.as_le_bytes().is_some_and(|b| b.first() == Some(&0)))
                });
                off.then_some(input)
            }
            _ => None,
        }
    }

    fn branch(&mut self, node: &Arc<Node>) -> Result<(), CompileError> {
        if self.scopes.len() > DEPTH_MAX {
            return Err(CompileError::failed(format!("{} is nested too deeply", node.describe())));
        }
        let name = node.inputs.first().map_or("", String::as_str);
        let condition = self.read(node, name)?;
        let Some(tensor) = self.values[condition.0].constant.clone() else {
            self.end = Some(End::Observe(condition));
            return Ok(());
        };
        let taken = tensor.as_le_bytes().and_then(|bytes| bytes.first()).is_some_and(|b| *b != 0);
        let which = if taken { "then_branch" } else { "else_branch" };
        let Some(graph) = node.graphs.get(which) else {
            return Err(CompileError::failed(format!("{} has no {which}", node.describe())));
        };
        let prefix = format!("{}/{which}/", node_key(self.prefix(), node));
        self.scopes.push(Scope { prefix, names: HashMap::new() });
        self.graph(graph)?;
        let results: Vec<Option<ValueId>> = graph.outputs.iter().map(|name| self.lookup(name)).collect();
        self.scopes.pop();
        if self.end.is_some() {
            return Ok(());
        }
        for (name, result) in node.outputs.iter().zip(results) {
            let Some(id) = result else {
                let why = format!("a branch of {} does not make its output {name:?}", node.describe());
                return Err(CompileError::failed(why));
            };
            self.bind(name, id);
        }
        Ok(())
    }

    fn place(&mut self, node: &Arc<Node>, inputs: Vec<Option<ValueId>>) -> Result<(), CompileError> {
        if let Some(tensors) = self.fold(node, &inputs)? {
            return self.bind_constants(node, tensors);
        }
        let fail = |why: String| CompileError::failed(format!("{}: {why}", node.describe()));
        let views = self.views(&inputs);
        let (types, single) = match rules::infer(node, &views).map_err(fail)? {
            Rule::Typed(types) => (types, None),
            Rule::Needs(index) => {
                let id = inputs.get(index).copied().flatten();
                self.end = Some(match id {
                    Some(id) if self.values[id.0].constant.is_none() => End::Observe(id),
                    _ => End::Dynamic(Box::new(self.unplaced(node, inputs))),
                });
                return Ok(());
            }
            Rule::Dynamic => {
                self.end = Some(End::Dynamic(Box::new(self.unplaced(node, inputs))));
                return Ok(());
            }
            Rule::Unknown => {
                let single = Single::compile(node, &self.model.opsets, &views, self.limits)?;
                let Some(types) = single.types() else {
                    self.end = Some(End::Dynamic(Box::new(self.unplaced(node, inputs))));
                    return Ok(());
                };
                (types, Some(Arc::new(single)))
            }
        };
        let mut outputs = Vec::with_capacity(node.outputs.len());
        // Rules name all outputs, tract those that are asked for.
        let asked_for = single.is_some();
        let mut types = types.iter();
        for name in &node.outputs {
            let of_this = if asked_for && name.is_empty() { None } else { types.next() };
            let id = match of_this {
                Some((datatype, shape)) if !name.is_empty() => {
                    let id = self.add(format!("{}{name}", self.prefix()), *datatype, shape.clone(), None)?;
                    self.bind(name, id);
                    Some(id)
                }
                _ => None,
            };
            outputs.push(id);
        }
        let key = node_key(self.prefix(), node);
        self.nodes.push(Placed { key, node: Arc::clone(node), inputs, outputs, single });
        Ok(())
    }

    fn unplaced(&self, node: &Arc<Node>, inputs: Vec<Option<ValueId>>) -> Placed {
        let key = node_key(self.prefix(), node);
        Placed { key, node: Arc::clone(node), inputs, outputs: Vec::new(), single: None }
    }

    fn views(&self, inputs: &[Option<ValueId>]) -> Vec<Option<View>> {
        let view = |id: ValueId| {
            let value = &self.values[id.0];
            View { datatype: value.datatype, shape: value.shape.clone(), constant: value.constant.clone() }
        };
        inputs.iter().map(|id| id.map(view)).collect()
    }

    /// A node's outputs, where they do not depend on a run's inputs.
    fn fold(
        &self,
        node: &Arc<Node>,
        inputs: &[Option<ValueId>],
    ) -> Result<Option<Vec<Arc<Tensor>>>, CompileError> {
        let views = self.views(inputs);
        let shape_only = matches!(node.op.as_str(), "Shape" | "Size");
        let known = views.iter().flatten().all(|view| view.constant.is_some());
        if !node.graphs.is_empty() || rules::is_random(&node.op) || !(known || shape_only) {
            return Ok(None);
        }
        let fail = |why: String| CompileError::failed(format!("{}: {why}", node.describe()));
        if let Some(tensors) = rules::evaluate(node, &views, self.limits).map_err(fail)? {
            return Ok(Some(tensors));
        }
        // Not worth keeping folded: the plan keeps the weights as the file has them.
        if node.op == "DequantizeLinear" {
            return Ok(None);
        }
        let single = Single::compile(node, &self.model.opsets, &views, self.limits)?;
        let tensors = single.run(&[]).map_err(fail)?;
        Ok(Some(tensors.into_iter().map(Arc::new).collect()))
    }

    fn bind_constants(&mut self, node: &Node, tensors: Vec<Arc<Tensor>>) -> Result<(), CompileError> {
        for (name, tensor) in node.outputs.iter().zip(tensors) {
            self.folded_bytes = self.folded_bytes.saturating_add(tensor.memory_bytes() as u64);
            self.limits.check_memory(self.folded_bytes)?;
            let id = self.constant(format!("{}{name}", self.prefix()), tensor)?;
            self.bind(name, id);
        }
        Ok(())
    }

    fn finish(mut self, graph: &Graph) -> Result<Straight, CompileError> {
        let end = self.end.take().unwrap_or(End::Done);
        let outputs = if matches!(end, End::Done) {
            let find = |name: &String| {
                self.scopes[0]
                    .names
                    .get(name)
                    .copied()
                    .ok_or_else(|| CompileError::failed(format!("nothing makes the output {name:?}")))
            };
            graph.outputs.iter().map(find).collect::<Result<_, _>>()?
        } else {
            self.live(graph, &end)
        };
        let Self { values, nodes, inputs, .. } = self;
        Ok(Straight { values, nodes, inputs, outputs, end })
    }

    /// Values that the rest may read, and what its first node reads.
    fn live(&self, graph: &Graph, end: &End) -> Vec<ValueId> {
        let mut found = BTreeSet::new();
        match end {
            End::Done => {}
            End::Observe(id) => {
                found.insert(*id);
            }
            End::Dynamic(placed) => found.extend(placed.inputs.iter().flatten().copied()),
        }
        let by_name = self.values.iter().enumerate().map(|(i, v)| (v.name.as_str(), ValueId(i))).collect();
        let ran = self.nodes.iter().map(|placed| placed.key.as_str()).collect();
        Later { walk: self, by_name, ran }.graph(graph, &mut vec![String::new()], &mut found);
        let id = |name: &String| self.scopes.first().and_then(|s| s.names.get(name)).copied();
        found.extend(graph.outputs.iter().filter_map(id));
        found.into_iter().filter(|id| self.values[id.0].constant.is_none()).collect()
    }
}

/// What the rest of a graph may read: every branch counts, since which is taken may not be known.
struct Later<'a> {
    walk: &'a Walk<'a>,
    by_name: HashMap<&'a str, ValueId>,
    ran: BTreeSet<&'a str>,
}

impl Later<'_> {
    fn graph(&self, graph: &Graph, prefixes: &mut Vec<String>, found: &mut BTreeSet<ValueId>) {
        let prefix = prefixes.last().cloned().unwrap_or_default();
        for node in &graph.nodes {
            let key = node_key(&prefix, node);
            if self.walk.environment.done.contains(&key) || self.ran.contains(key.as_str()) {
                continue;
            }
            found.extend(node.inputs.iter().filter_map(|name| self.find(name, prefixes)));
            for (which, inner) in &node.graphs {
                prefixes.push(format!("{key}/{which}/"));
                self.graph(inner, prefixes, found);
                prefixes.pop();
            }
        }
        found.extend(graph.outputs.iter().filter_map(|name| self.find(name, prefixes)));
    }

    fn find(&self, name: &str, prefixes: &[String]) -> Option<ValueId> {
        let by_path = |prefix: &String| self.by_name.get(format!("{prefix}{name}").as_str()).copied();
        prefixes.iter().rev().find_map(by_path).or_else(|| self.walk.lookup(name))
    }
}
