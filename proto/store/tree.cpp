#include "proto/store/tree.hpp"

#include <algorithm>
#include <vector>

namespace taskpool::store {
namespace {

/// What a node is replaced by: nothing, itself in a new form, or several of its level.
using Branches = std::vector<Branch>;
using Items = std::vector<std::uint64_t>;

std::uint64_t item_place(Reference leaf, std::size_t index) {
  return leaf.offset() + sizeof(BlockHeader) + index * sizeof(std::uint64_t);
}

/// A branch's words never change while it is live.
Branch branch_at(const Core& core, Reference node, std::size_t index) {
  const std::uint64_t place = node.offset() + sizeof(BlockHeader) + index * sizeof(Branch);
  return {core.word(place), core.word(place + sizeof(std::uint64_t))};
}

Branches branches_of(const Core& core, Reference node) {
  Branches branches;
  for (std::size_t index = 0, size = node_shape(core, node).size; index < size; ++index)
    branches.push_back(branch_at(core, node, index));
  return branches;
}

Items items_of(const Record& record, Reference leaf) {
  Items items;
  for (std::size_t index = 0, size = node_shape(record.core, leaf).size; index < size; ++index)
    items.push_back(record.tx.load(item_place(leaf, index)));
  return items;
}

std::uint64_t sum(std::span<const Branch> branches) {
  std::uint64_t items = 0;
  for (const Branch& branch : branches) items += branch.items;
  return items;
}

/// Allocates and fills one node from whole words.
Result<Reference> make_node(Record& record, unsigned level, std::size_t size, std::span<const std::byte> words) {
  const unsigned size_class = level == 0 ? kLeafClass : kBranchClass;
  const auto block = record.tx.allocate(size_class);
  if (!block) return block.error();
  copy_in(words, record.core.at(*block) + sizeof(BlockHeader));
  const auto node = record.tx.describe(*block, record.id, NodeShape{level, size}.pack(), {.kind = BlockKind::node});
  record.add_bytes(static_cast<std::int64_t>(block_bytes(record.core, node)));
  return node;
}

Result<Branch> make_leaf(Record& record, std::span<const std::uint64_t> items) {
  const auto node = make_node(record, 0, items.size(), std::as_bytes(items));
  if (!node) return node.error();
  return Branch{node->word, items.size()};
}

Result<Branch> make_branch(Record& record, unsigned level, std::span<const Branch> branches) {
  const auto node = make_node(record, level, branches.size(), std::as_bytes(branches));
  if (!node) return node.error();
  return Branch{node->word, sum(branches)};
}

/// A copy of a node with `removed` of its words, from `at` on, replaced by others. It is not empty, and fits.
Result<Reference> splice(Record& record, Reference node, NodeShape shape, std::size_t at, std::size_t removed,
                         std::span<const std::uint64_t> added) {
  const bool is_leaf = shape.level == 0;
  const std::size_t child_words = is_leaf ? 1 : sizeof(Branch) / sizeof(std::uint64_t);
  const std::size_t words = shape.size * child_words;
  std::uint64_t copy[std::max(kLeafItems, kBranches * sizeof(Branch) / sizeof(std::uint64_t))];
  const auto load = [&, first = node.offset() + sizeof(BlockHeader),
                     is_plain = !record.tx.has_changed_blocks()](std::size_t index) {
    const std::uint64_t place = first + index * sizeof(std::uint64_t);
    return is_plain ? record.core.word(place) : record.tx.load(place);
  };
  std::size_t size = 0;
  while (size < at) {
    copy[size] = load(size);
    ++size;
  }
  for (const std::uint64_t word : added) copy[size++] = word;
  for (std::size_t index = at + removed; index < words; ++index) copy[size++] = load(index);
  const auto made = make_node(record, shape.level, size / child_words, std::as_bytes(std::span{copy, size}));
  if (made) record.drop(node);
  return made;
}

/// Cuts `all` into nodes of at most `capacity`. Appending leaves full nodes behind, everything else evenly filled ones.
template <class T, class Make>
Result<Branches> cut(std::span<const T> all, std::size_t capacity, bool appends, Make&& make) {
  Branches made;
  for (std::size_t nodes = (all.size() + capacity - 1) / capacity; nodes != 0; --nodes) {
    const std::size_t size = appends ? std::min(capacity, all.size()) : (all.size() + nodes - 1) / nodes;
    const auto node = make(all.first(size));
    if (!node) return node.error();
    made.push_back(*node);
    all = all.subspan(size);
  }
  return made;
}

Result<Branches> cut_leaves(Record& record, std::span<const std::uint64_t> items, bool appends) {
  return cut(items, kLeafItems, appends, [&](auto part) { return make_leaf(record, part); });
}

Result<Branches> cut_branches(Record& record, unsigned level, std::span<const Branch> branches, bool appends) {
  return cut(branches, kBranches, appends, [&](auto part) { return make_branch(record, level, part); });
}

/// Puts levels above nodes until there is one: the root.
Result<Reference> join(Record& record, unsigned level, Branches nodes, bool appends) {
  while (nodes.size() > 1) {
    auto above = cut_branches(record, ++level, nodes, appends);
    if (!above) return above.error();
    nodes = std::move(*above);
  }
  return nodes.empty() ? Reference{} : Reference{nodes.front().child};
}

Result<Branches> insert_below(Record& record, const Branch& whole, std::uint64_t index,
                              std::span<const std::uint64_t> added) {
  const Reference node{whole.child};
  const NodeShape shape = node_shape(record.core, node);
  const auto one = [&](const Result<Reference>& made) -> Result<Branches> {
    if (!made) return made.error();
    return Branches{{made->word, whole.items + added.size()}};
  };
  Result<Branches> made = Branches{};
  if (shape.level == 0) {
    if (shape.size + added.size() <= kLeafItems) return one(splice(record, node, shape, index, 0, added));
    Items items = items_of(record, node);
    items.insert(items.begin() + static_cast<std::ptrdiff_t>(index), added.begin(), added.end());
    made = cut_leaves(record, items, index == shape.size);
  } else {
    std::size_t child = 0;
    Branch branch = branch_at(record.core, node, child);
    while (child + 1 < shape.size && index > branch.items) {
      index -= branch.items;
      branch = branch_at(record.core, node, ++child);
    }
    const bool appends = child + 1 == shape.size && index == branch.items;
    const auto below = insert_below(record, branch, index, added);
    if (!below) return below.error();
    if (below->size() == 1) {
      const std::uint64_t words[] = {below->front().child, below->front().items};
      return one(splice(record, node, shape, 2 * child, 2, words));
    }
    Branches branches = branches_of(record.core, node);
    const auto place = branches.erase(branches.begin() + static_cast<std::ptrdiff_t>(child));
    branches.insert(place, below->begin(), below->end());
    made = cut_branches(record, shape.level, branches, appends);
  }
  if (made) record.drop(node);
  return made;
}

/// One node of the content of two neighbours.
Result<Branch> merge(Record& record, unsigned level, const Branch& left, const Branch& right) {
  const Reference nodes[] = {Reference{left.child}, Reference{right.child}};
  Result<Branch> made = Branch{};
  if (level == 0) {
    Items items = items_of(record, nodes[0]);
    const Items more = items_of(record, nodes[1]);
    items.insert(items.end(), more.begin(), more.end());
    made = make_leaf(record, items);
  } else {
    Branches branches = branches_of(record.core, nodes[0]);
    const Branches more = branches_of(record.core, nodes[1]);
    branches.insert(branches.end(), more.begin(), more.end());
    made = make_branch(record, level, branches);
  }
  if (made)
    for (const Reference node : nodes) record.drop(node);
  return made;
}

/// Merges children that became small with a neighbour, so that a list that shrinks has no chain of nearly empty nodes.
Result<void> merge_small(Record& record, unsigned level, Branches& branches, std::size_t first, std::size_t last) {
  const std::size_t capacity = level == 0 ? kLeafItems : kBranches;
  const auto size = [&](std::size_t index) { return node_shape(record.core, Reference{branches[index].child}).size; };
  for (std::size_t index = std::min(last + 1, branches.size()); index-- > first;) {
    if (index >= branches.size() || size(index) > capacity / 4) continue;
    for (const std::size_t left : {index, index - 1}) {  // index - 1 of 0 is no index, and fails the next line
      if (left >= branches.size() || left + 1 >= branches.size() || size(left) + size(left + 1) > capacity) continue;
      const auto merged = merge(record, level, branches[left], branches[left + 1]);
      if (!merged) return merged.error();
      branches[left] = *merged;
      branches.erase(branches.begin() + static_cast<std::ptrdiff_t>(left) + 1);
      break;
    }
  }
  return {};
}

/// True if the child is so small that it should go together with a neighbour, and one has room.
bool can_merge(const Core& core, Reference node, NodeShape shape, std::size_t child) {
  const std::size_t capacity = shape.level == 1 ? kLeafItems : kBranches;
  const auto size = [&](std::size_t index) {
    return node_shape(core, Reference{branch_at(core, node, index).child}).size;
  };
  const std::size_t own = size(child);
  if (own > capacity / 4) return false;
  return (child > 0 && size(child - 1) + own <= capacity) ||
         (child + 1 < shape.size && own + size(child + 1) <= capacity);
}

/// Removes [first, last) below; at most one node comes back.
Result<Branches> remove_below(Record& record, const Branch& whole, std::uint64_t first, std::uint64_t last) {
  const Reference node{whole.child};
  const NodeShape shape = node_shape(record.core, node);
  const auto one = [&](const Result<Reference>& made) -> Result<Branches> {
    if (!made) return made.error();
    return Branches{{made->word, whole.items - (last - first)}};
  };
  Result<Branches> made = Branches{};
  if (shape.level == 0) {
    for (std::uint64_t index = first; index < last; ++index)
      record.drop(Reference{record.tx.load(item_place(node, index))});
    if (last - first < shape.size) return one(splice(record, node, shape, first, last - first, {}));
  } else {
    // Mostly it is part of one child, which stays large enough.
    std::uint64_t before = 0;
    std::size_t child = 0;
    Branch branch = branch_at(record.core, node, 0);
    while (first - before >= branch.items) {
      before += branch.items;
      branch = branch_at(record.core, node, ++child);
    }
    if (last - before < branch.items && !can_merge(record.core, node, shape, child)) {
      const auto below = remove_below(record, branch, first - before, last - before);
      if (!below) return below.error();
      const std::uint64_t words[] = {below->front().child, below->front().items};
      return one(splice(record, node, shape, 2 * child, 2, words));
    }
    const Branches branches = branches_of(record.core, node);
    Branches left;
    std::size_t changed_first = branches.size(), changed_last = 0;
    std::uint64_t begin = 0;
    for (const Branch& each : branches) {
      const std::uint64_t end = begin + each.items;
      if (last <= begin || end <= first) {
        left.push_back(each);
      } else if (first <= begin && end <= last) {
        record.tx.doom({Reference{each.child}, record.id});
        changed_first = std::min(changed_first, left.size());
        changed_last = left.size();
      } else {
        const auto below = remove_below(record, each, std::max(first, begin) - begin, std::min(last, end) - begin);
        if (!below) return below.error();
        changed_first = std::min(changed_first, left.size());
        left.insert(left.end(), below->begin(), below->end());
        changed_last = left.size();
      }
      begin = end;
    }
    if (auto merged = merge_small(record, shape.level - 1, left, changed_first, changed_last); !merged)
      return merged.error();
    made = cut_branches(record, shape.level, left, false);
  }
  if (made) record.drop(node);
  return made;
}

/// The leaf that has the item at `index`, which becomes the place in it.
Reference find_leaf(const Record& record, std::uint64_t& index) {
  Reference node = record.root();
  for (NodeShape shape = node_shape(record.core, node); shape.level != 0; shape = node_shape(record.core, node)) {
    std::size_t child = 0;
    Branch branch = branch_at(record.core, node, child);
    while (index >= branch.items) {
      index -= branch.items;
      branch = branch_at(record.core, node, ++child);
    }
    node = Reference{branch.child};
  }
  return node;
}

/// Makes another tree the content; the old nodes, without the items, are freed later.
void replace_nodes(Record& record, Reference root) {
  if (const Reference old = record.root()) record.tx.doom({old, record.id, true});
  record.set_root(root);
  record.touch();
}

}  // namespace

Reference item_at(const Record& record, std::uint64_t index) {
  const Reference leaf = find_leaf(record, index);
  return Reference{record.tx.load(item_place(leaf, index))};
}

void replace_item(Record& record, std::uint64_t index, Reference item) {
  const Reference leaf = find_leaf(record, index);
  const std::uint64_t place = item_place(leaf, index);
  record.drop(Reference{record.tx.load(place)});
  record.tx.store_in(leaf.offset(), place, item.word);
  record.add_bytes(static_cast<std::int64_t>(block_bytes(record.core, item)));
  record.touch();
}

Result<void> insert_items(Record& record, std::uint64_t index, std::span<const std::uint64_t> items) {
  if (items.empty()) return {};
  const Reference root = record.root();
  const bool appends = index == record.count();
  const unsigned level = root ? node_shape(record.core, root).level : 0;
  auto nodes =
      root ? insert_below(record, {root.word, record.count()}, index, items) : cut_leaves(record, items, appends);
  if (!nodes) return nodes.error();
  const auto joined = join(record, level, std::move(*nodes), appends);
  if (!joined) return joined.error();
  record.set_root(*joined);
  record.set_count(record.count() + items.size());
  for (const std::uint64_t item : items)
    record.add_bytes(static_cast<std::int64_t>(block_bytes(record.core, Reference{item})));
  record.touch();
  return {};
}

Result<void> remove_items(Record& record, std::uint64_t first, std::uint64_t count) {
  if (count == 0) return {};
  const Reference root = record.root();
  if (count == record.count()) {
    record.tx.doom({root, record.id});
    record.set_root({});
  } else {
    const auto nodes = remove_below(record, {root.word, record.count()}, first, first + count);
    if (!nodes) return nodes.error();
    Reference top{nodes->front().child};
    while (node_shape(record.core, top).level != 0 && node_shape(record.core, top).size == 1) {
      const Reference child{branch_at(record.core, top, 0).child};
      record.drop(top);
      top = child;
    }
    record.set_root(top);
  }
  record.set_count(record.count() - count);
  record.touch();
  return {};
}

Result<Reference> build_tree(Record& record, std::span<const std::uint64_t> items) {
  auto leaves = cut_leaves(record, items, true);
  if (!leaves) return leaves.error();
  return join(record, 0, std::move(*leaves), true);
}

std::uint64_t visit_items(const Record& record, std::uint64_t index, std::uint64_t count,
                          const std::function<void(Reference)>& visit) {
  while (count != 0 && index < record.count()) {
    std::uint64_t place = index;
    const Reference leaf = find_leaf(record, place);
    for (const std::size_t size = node_shape(record.core, leaf).size; place < size && count != 0; ++place, --count) {
      visit(Reference{record.tx.load(item_place(leaf, place))});
      ++index;
    }
  }
  return index;
}

Result<void> reverse_items(Record& record) {
  auto& prepared = record.state.reversal;
  const std::uint64_t version = record.get(offsetof(ObjectRecord, version));
  if (prepared && prepared->is_done && prepared->version == version && !record.tx.has_touched(record.state.record)) {
    for (const std::uint64_t block : prepared->blocks) {
      record.tx.adopt(block);
      record.add_bytes(static_cast<std::int64_t>(class_bytes(record.core.about(block).size_class)));
    }
    replace_nodes(record, prepared->root);
    prepared.reset();
    return {};
  }
  stop_reversing(record.core, record.state);
  if (record.count() > kInlineSteps) {
    if (record.tx.has_touched(record.state.record))
      return fail(Errc::limit_reached, "batch: it reverses a long list that it changes");
    prepared = std::make_unique<Reversal>();
    prepared->version = version;
    prepared->items.resize(record.count());
    return fail(Errc::busy, "list: it is being reversed");
  }
  if (record.count() < 2) return {};
  std::vector<std::uint64_t> items;
  visit_items(record, 0, record.count(), [&](Reference item) { items.push_back(item.word); });
  std::reverse(items.begin(), items.end());
  const auto root = build_tree(record, items);
  if (!root) return root.error();
  replace_nodes(record, *root);
  return {};
}

Result<bool> reverse_some(Record& record, std::size_t steps) {
  auto& reversal = record.state.reversal;
  if (!reversal || reversal->is_done) return true;
  const std::uint64_t count = reversal->items.size();
  const std::uint64_t before = reversal->collected;
  reversal->collected = visit_items(record, before, steps, [&, place = count - before](Reference item) mutable {
    reversal->items[--place] = item.word;
  });
  steps -= std::min<std::size_t>(steps, reversal->collected - before);
  while (reversal->collected == count && reversal->placed < count && steps >= kLeafItems) {
    const std::size_t size = std::min<std::uint64_t>(kLeafItems, count - reversal->placed);
    const auto leaf = make_leaf(record, std::span{reversal->items}.subspan(reversal->placed, size));
    if (!leaf) return leaf.error();
    reversal->leaves.push_back(*leaf);
    reversal->placed += size;
    steps -= size;
  }
  if (reversal->placed == count) {
    const auto root = join(record, 0, Branches(reversal->leaves.begin(), reversal->leaves.end()), true);
    if (!root) return root.error();
    reversal->root = *root;
    reversal->is_done = true;
  }
  // They stay although this transaction ends without a commit.
  const auto made = record.tx.disown();
  reversal->blocks.insert(reversal->blocks.end(), made.begin(), made.end());
  return reversal->is_done;
}

void stop_reversing(Core& core, ObjectState& state) {
  if (!state.reversal) return;
  for (const std::uint64_t block : state.reversal->blocks) core.free_block(block);
  state.reversal.reset();
}

}  // namespace taskpool::store
