#include "post_dominators.h"

#include <algorithm>
#include <cstddef>
#include <utility>

namespace diffsort::device {
namespace {

constexpr std::int32_t kNone = -1;

// The basic blocks of a function, in the order of its code, and behind them the function's end.
class Blocks {
 public:
  Blocks(std::vector<Instruction>& code, std::int32_t first, std::int32_t last) : code_(code) {
    find_leaders(first, last);
    std::vector<std::int32_t> block_of(static_cast<std::size_t>(last - first));
    for (std::int32_t i = first; i < last; ++i) {
      if (at(i).leads) begins_.push_back(i);
      block_of[static_cast<std::size_t>(i - first)] = static_cast<std::int32_t>(begins_.size()) - 1;
    }
    begins_.push_back(last);
    successors_.resize(begins_.size());
    predecessors_.resize(begins_.size());
    for (std::int32_t b = 0; b < end(); ++b) {
      const std::int32_t i = begins_[index(b) + 1] - 1;  // its last instruction
      const bool ends = at(i).control == Control::end || at(i).control == Control::trap;
      if (ends) connect(b, end());
      if (at(i).control == Control::branch) {
        connect(b, block_of[static_cast<std::size_t>(at(i).target - first)]);
      }
      if (i + 1 < last && (at(i).guard != kNoOperand || !leaves(at(i)))) connect(b, b + 1);
    }
  }

  std::int32_t end() const { return static_cast<std::int32_t>(begins_.size()) - 1; }
  const std::vector<std::int32_t>& successors(std::int32_t b) const {
    return successors_[index(b)];
  }
  const std::vector<std::int32_t>& predecessors(std::int32_t b) const {
    return predecessors_[index(b)];
  }

  void note(const std::vector<std::int32_t>& depths) {
    for (std::int32_t b = 0; b < end(); ++b) {
      for (std::int32_t i = begins_[index(b)]; i < begins_[index(b) + 1]; ++i) {
        at(i).post_dominators = depths[index(b)];
      }
    }
  }

  static std::size_t index(std::int32_t b) { return static_cast<std::size_t>(b); }

 private:
  // Whether no lane that executes it goes on behind it.
  static bool leaves(const Instruction& instruction) {
    return instruction.control == Control::branch || instruction.control == Control::end ||
           instruction.control == Control::trap;
  }

  Instruction& at(std::int32_t i) { return code_[static_cast<std::size_t>(i)]; }

  void find_leaders(std::int32_t first, std::int32_t last) {
    if (first < last) at(first).leads = true;
    for (std::int32_t i = first; i < last; ++i) {
      if (at(i).control == Control::branch) at(at(i).target).leads = true;
      if (leaves(at(i)) && i + 1 < last) at(i + 1).leads = true;
    }
  }

  void connect(std::int32_t from, std::int32_t to) {
    successors_[index(from)].push_back(to);
    predecessors_[index(to)].push_back(from);
  }

  std::vector<Instruction>& code_;
  std::vector<std::int32_t> begins_;
  std::vector<std::vector<std::int32_t>> successors_, predecessors_;
};

// All blocks that lead to the end, those that lead to a block behind it, as far as loops allow that.
std::vector<std::int32_t> from_the_end(const Blocks& blocks) {
  std::vector<std::int32_t> order;
  std::vector<bool> seen(Blocks::index(blocks.end()) + 1);
  std::vector<std::pair<std::int32_t, std::size_t>> open{{blocks.end(), 0}};
  seen[Blocks::index(blocks.end())] = true;
  while (!open.empty()) {
    auto& [block, next] = open.back();
    const auto& predecessors = blocks.predecessors(block);
    if (next == predecessors.size()) {
      order.push_back(block);
      open.pop_back();
      continue;
    }
    const std::int32_t to = predecessors[next++];
    if (seen[Blocks::index(to)]) continue;
    seen[Blocks::index(to)] = true;
    open.emplace_back(to, 0);
  }
  std::reverse(order.begin(), order.end());
  return order;
}

// Cooper, Harvey, Kennedy, "A Simple, Fast Dominance Algorithm" (2001), from the end backwards.
std::vector<std::int32_t> depths_of(const Blocks& blocks) {
  const std::vector<std::int32_t> order = from_the_end(blocks);
  const std::size_t count = Blocks::index(blocks.end()) + 1;
  std::vector<std::int32_t> place(count, kNone), parent(count, kNone), depth(count);
  for (std::size_t k = 0; k < order.size(); ++k) {
    place[Blocks::index(order[k])] = static_cast<std::int32_t>(k);
  }
  parent[Blocks::index(blocks.end())] = blocks.end();
  const auto common = [&](std::int32_t a, std::int32_t b) {
    while (a != b) {
      std::int32_t& later = place[Blocks::index(a)] > place[Blocks::index(b)] ? a : b;
      later = parent[Blocks::index(later)];
    }
    return a;
  };
  for (bool changes = true; changes;) {
    changes = false;
    for (std::size_t k = 1; k < order.size(); ++k) {
      std::int32_t found = kNone;
      for (const std::int32_t to : blocks.successors(order[k])) {
        if (parent[Blocks::index(to)] == kNone) continue;
        found = found == kNone ? to : common(found, to);
      }
      changes |= parent[Blocks::index(order[k])] != found;
      parent[Blocks::index(order[k])] = found;
    }
  }
  for (std::size_t k = 1; k < order.size(); ++k) {
    depth[Blocks::index(order[k])] = depth[Blocks::index(parent[Blocks::index(order[k])])] + 1;
  }
  return depth;
}

}  // namespace

void note_post_dominators(std::vector<Instruction>& code, std::int32_t first, std::int32_t last) {
  Blocks blocks(code, first, last);
  blocks.note(depths_of(blocks));
}

}  // namespace diffsort::device
