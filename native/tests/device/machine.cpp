#include "machine.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <sstream>

namespace diffsort::device {
namespace {

constexpr unsigned char kRubbish = 0xab;

bool has(Mask mask, int lane) {
  return mask >> lane & 1;
}

int first_of(Mask mask) {
  return __builtin_ctz(mask);
}

template <class F>
void for_each_lane(Mask mask, const F& f) {
  for (; mask != 0; mask &= mask - 1) f(first_of(mask));
}

}  // namespace

Counts& Counts::operator+=(const Counts& other) {
  instructions += other.instructions;
  lane_instructions += other.lane_instructions;
  return *this;
}

// The warps of a block, and the memory that they share.
class Block {
 public:
  explicit Block(Machine& machine)
      : machine(machine),
        launch(*machine.launch_),
        shared(static_cast<std::size_t>(launch.module->dynamic_shared) + launch.shared_bytes) {
    for (std::uint32_t t = 0; t < launch.threads; t += kLanes) {
      warps_.push_back(std::make_unique<Warp>(*this, static_cast<int>(t)));
    }
  }

  void run(std::uint32_t block_index) {
    index = block_index;
    ++machine.blocks_run_;
    fill_shared();
    for (const auto& warp : warps_) warp->start(block_index);
    for (;;) {
      run_warps();
      if (std::all_of(warps_.begin(), warps_.end(), [](auto& w) { return w->has_ended(); })) return;
      for (const auto& warp : warps_) warp->check_waits_for_block(*warps_[0]);
      const bool any =
          std::any_of(warps_.begin(), warps_.end(), [](auto& w) { return w->votes(); });
      for (const auto& warp : warps_) warp->pass_block_barrier(any);
      ++epoch;
    }
  }

  bool holds(std::size_t begin, std::size_t bytes) const {
    const auto lies_in = [&](const Bytes& area) {
      const auto first = static_cast<std::size_t>(area.at);
      return begin >= first && begin + bytes <= first + static_cast<std::size_t>(area.size);
    };
    const auto dynamic = static_cast<std::size_t>(launch.module->dynamic_shared);
    if (begin >= dynamic) return begin + bytes <= shared.size();
    const auto& areas = launch.kernel->shared;
    return std::any_of(areas.begin(), areas.end(), lies_in);
  }

  Machine& machine;
  const Launch& launch;
  std::uint32_t index = 0, epoch = 0;
  std::vector<unsigned char> shared;

 private:
  void fill_shared() {
    const auto fill = [&](const Bytes& area) {
      std::memset(shared.data() + area.at, kRubbish, static_cast<std::size_t>(area.size));
    };
    for (const Bytes& area : launch.kernel->shared) fill(area);
    fill({launch.module->dynamic_shared, static_cast<std::int32_t>(launch.shared_bytes)});
  }

  // One after the other, or shuffled by turns.
  void run_warps() {
    if (!machine.settings.shuffled) {
      for (const auto& warp : warps_) warp->run(INT32_MAX);
      return;
    }
    std::vector<Warp*> ready;
    for (const auto& warp : warps_) ready.push_back(warp.get());
    while (!ready.empty()) {
      Warp*& next = ready[machine.random_() % ready.size()];
      if (next->run(1 + static_cast<int>(machine.random_() % 8))) continue;
      next = ready.back();
      ready.pop_back();
    }
  }

  std::vector<std::unique_ptr<Warp>> warps_;
};

Warp::Warp(Block& block, int first_thread)
    : block_(block),
      machine_(block.machine),
      module_(*block.launch.module),
      constants_(module_.constants.data()),
      first_thread_(first_thread) {
  const int lanes = std::min(kLanes, static_cast<int>(block.launch.threads) - first_thread);
  all_ = lanes == kLanes ? ~Mask{0} : (Mask{1} << lanes) - 1;
  // As yet untouched memory costs nothing.
  registers_.reset(static_cast<Word*>(
      std::calloc(static_cast<std::size_t>(module_.registers) * kLanes, sizeof(Word))));
  local_.reset(static_cast<unsigned char*>(
      std::calloc(kLanes, static_cast<std::size_t>(module_.local_bytes) + 1)));
}

void Warp::start(std::uint32_t block_index) {
  for (int lane = 0; lane < kLanes; ++lane) {
    const auto i = static_cast<std::size_t>(lane);
    out(kThread)[i] = static_cast<Word>(first_thread_ + lane);
    out(kThreads)[i] = block_.launch.threads;
    out(kBlock)[i] = block_index;
    out(kBlocks)[i] = block_.launch.blocks;
    out(kLane)[i] = static_cast<Word>(lane);
    out(kLanesBelow)[i] = (Mask{1} << lane) - 1;
    out(kLanesUpTo)[i] = Mask{2} * (Mask{1} << lane) - 1;
    out(kLanesAbove)[i] = static_cast<Mask>(~out(kLanesUpTo)[i]);
    out(kLanesFrom)[i] = static_cast<Mask>(~out(kLanesBelow)[i]);
  }
  ended_ = at_block_barrier_ = at_warp_barrier_ = together_ = 0;
  pc_.fill(block_.launch.kernel->first);
  depth_.fill(0);
}

void Warp::fail(const std::string& what, int lane) const {
  std::ostringstream text;
  text << what << " (PTX line " << module_.code[static_cast<std::size_t>(now_)].line << ", block "
       << block_.index << ", thread " << first_thread_ + lane << ")";
  throw KernelError(text.str());
}

// In the same call as the other: whether fewer blocks, or the same number of them and less code, lie
// between it and the end.
bool Warp::is_ahead(int lane, int other) const {
  const auto i = static_cast<std::size_t>(lane), k = static_cast<std::size_t>(other);
  if (depth_[i] != depth_[k]) return depth_[i] < depth_[k];
  const std::int32_t mine = module_.code[static_cast<std::size_t>(pc_[i])].post_dominators,
                     others = module_.code[static_cast<std::size_t>(pc_[k])].post_dominators;
  return mine != others ? mine < others : pc_[i] > pc_[k];
}

// The lanes that go on next: in order, of those in the deepest call the farthest from its end.
Mask Warp::choose() const {
  const Mask ready = all_ & ~(ended_ | at_block_barrier_ | at_warp_barrier_ | together_);
  if (ready == 0) return 0;
  int best = first_of(ready);
  if (machine_.settings.shuffled) {
    for (auto skip = machine_.random_() % static_cast<unsigned>(__builtin_popcount(ready));
         skip > 0; --skip) {
      const Mask after = ready & (~Mask{1} << best);
      best = first_of(after);
    }
  } else {
    for_each_lane(ready, [&](int lane) {
      if (is_ahead(best, lane)) best = lane;
    });
  }
  const auto b = static_cast<std::size_t>(best);
  Mask group = 0;
  for_each_lane(ready, [&](int lane) {
    const auto i = static_cast<std::size_t>(lane);
    if (depth_[i] == depth_[b] && pc_[i] == pc_[b]) group |= Mask{1} << lane;
  });
  return group;
}

// How far from the end of the group's call other lanes in it are that are ready, at the most.
std::int32_t Warp::farthest_other(Mask group) const {
  const Mask others = all_ & ~(group | ended_ | at_block_barrier_ | at_warp_barrier_ | together_);
  const auto first = static_cast<std::size_t>(first_of(group));
  std::int32_t farthest = -1;
  for_each_lane(others, [&](int lane) {
    const auto i = static_cast<std::size_t>(lane);
    const Instruction& next = module_.code[static_cast<std::size_t>(pc_[i])];
    if (depth_[i] == depth_[first]) farthest = std::max(farthest, next.post_dominators);
  });
  return farthest;
}

bool Warp::run(int groups) {
  for (; groups > 0; --groups) {
    const Mask group = choose();
    if (group == 0) break;
    run_group(group);
  }
  if (groups == 0) return true;
  if ((together_ | at_warp_barrier_) != 0) {
    fail("lanes wait for others of their warp, which never come",
         first_of(together_ | at_warp_barrier_));
  }
  return false;
}

// Until the lanes part, wait, call or return, or come to where others may be, or are farther behind.
void Warp::run_group(Mask group) {
  std::int32_t pc = pc_[static_cast<std::size_t>(first_of(group))];
  const std::int32_t others = farthest_other(group);
  int left = machine_.settings.shuffled ? static_cast<int>(machine_.random_() % 64) : INT32_MAX;
  Counts& counts = machine_.counts_;
  const auto lanes = static_cast<std::uint64_t>(__builtin_popcount(group));
  for (;;) {
    const Instruction& instruction = module_.code[static_cast<std::size_t>(pc)];
    now_ = pc;
    ++counts.instructions;
    counts.lane_instructions += lanes;
    if (instruction.control == Control::none) {
      const Mask mask = instruction.guard == kNoOperand ? group : guarded(instruction, group);
      if (mask != 0) instruction.execute(*this, instruction, mask);
      ++pc;
    } else if (instruction.control == Control::branch) {
      const Mask taken = instruction.guard == kNoOperand ? group : guarded(instruction, group);
      if (taken == group) {
        pc = instruction.target;
      } else if (taken == 0) {
        ++pc;
      } else {
        move_to(taken, instruction.target);
        return move_to(group & ~taken, pc + 1);
      }
    } else {
      move_to(group, pc);
      return control(instruction, group, pc);
    }
    const Instruction& next = module_.code[static_cast<std::size_t>(pc)];
    const bool may_meet = next.leads && next.post_dominators <= others;
    if (may_meet || --left < 0) return move_to(group, pc);
  }
}

void Warp::control(const Instruction& instruction, Mask group, std::int32_t pc) {
  if (instruction.guard != kNoOperand) {
    const Mask mask = guarded(instruction, group);
    move_to(group & ~mask, pc + 1);
    group = mask;
    if (group == 0) return;
  }
  switch (instruction.control) {
    case Control::call:
      return call(instruction, group, pc);
    case Control::end:
      return end(group);
    case Control::block_barrier:
      at_block_barrier_ |= group;
      return;
    case Control::warp_barrier:
      return wait_for_warp(instruction, group);
    case Control::together:
      return wait_for_lanes(instruction, group, pc);
    default:
      fail("trap", first_of(group));
  }
}

void Warp::move_to(Mask lanes, std::int32_t pc) {
  for_each_lane(lanes, [&](int lane) { pc_[static_cast<std::size_t>(lane)] = pc; });
}

Mask Warp::guarded(const Instruction& instruction, Mask group) const {
  const Word* predicate = in(instruction.guard);
  Mask mask = 0;
  for (int lane = 0; lane < kLanes; ++lane) mask |= static_cast<Mask>(predicate[lane] & 1) << lane;
  return group & (instruction.guard_negated ? ~mask : mask);
}

void Warp::copy(const std::vector<Bytes>& from, const std::vector<Bytes>& to, int lane) {
  if (from.size() != to.size()) fail("a call with another number of arguments", lane);
  unsigned char* memory = local_.get() + static_cast<std::size_t>(lane * module_.local_bytes);
  for (std::size_t k = 0; k < from.size(); ++k) {
    std::memcpy(memory + to[k].at, memory + from[k].at,
                static_cast<std::size_t>(std::min(from[k].size, to[k].size)));
  }
}

void Warp::call(const Instruction& instruction, Mask group, std::int32_t pc) {
  const Call& call = module_.calls[static_cast<std::size_t>(instruction.target)];
  const Function& function = module_.functions[static_cast<std::size_t>(call.function)];
  for_each_lane(group, [&](int lane) {
    const auto i = static_cast<std::size_t>(lane);
    if (depth_[i] == kMostCalls) fail("too many calls within each other", lane);
    copy(call.arguments, function.parameters, lane);
    calls_[i][static_cast<std::size_t>(depth_[i]++)] = pc;
  });
  move_to(group, function.first);
}

void Warp::end(Mask lanes) {
  for_each_lane(lanes, [&](int lane) {
    const auto i = static_cast<std::size_t>(lane);
    if (depth_[i] == 0) {
      ended_ |= Mask{1} << lane;
      return;
    }
    pc_[i] = calls_[i][static_cast<std::size_t>(--depth_[i])];
    const Call& call =
        module_
            .calls[static_cast<std::size_t>(module_.code[static_cast<std::size_t>(pc_[i])].target)];
    copy(module_.functions[static_cast<std::size_t>(call.function)].results, call.results, lane);
    ++pc_[i];
  });
}

// A shuffle or a vote: once all that are to take part are at it, it is executed for them.
void Warp::wait_for_lanes(const Instruction& instruction, Mask group, std::int32_t pc) {
  const Word* masks = in(instruction.from[3]);
  together_ |= group;
  Mask here = 0;
  for_each_lane(together_, [&](int lane) {
    if (pc_[static_cast<std::size_t>(lane)] == pc) here |= Mask{1} << lane;
  });
  const auto mask = static_cast<Mask>(masks[first_of(group)]) & all_;
  for_each_lane(group, [&](int lane) {
    if ((static_cast<Mask>(masks[lane]) & all_) != mask || !has(mask, lane)) {
      fail("lanes that are to take part disagree on who does", lane);
    }
  });
  if ((mask & ~here) != 0) return;
  instruction.execute(*this, instruction, mask);  // which orders no writes, unlike a barrier
  together_ &= ~mask;
  move_to(mask, pc + 1);
}

void Warp::wait_for_warp(const Instruction& instruction, Mask group) {
  const Word* masks = in(instruction.from[3]);
  for_each_lane(group, [&](int lane) {
    const auto mask = static_cast<Mask>(masks[lane]) & all_;
    if (!has(mask, lane)) fail("a lane waits for others but not for itself", lane);
    waits_for_[static_cast<std::size_t>(lane)] = mask;
  });
  at_warp_barrier_ |= group;
  const Mask mask = waits_for_[static_cast<std::size_t>(first_of(group))] & ~ended_;
  if ((mask & ~at_warp_barrier_) != 0) return;
  at_warp_barrier_ &= ~mask;
  if (mask == (all_ & ~ended_)) ++epoch_;
  for_each_lane(mask, [&](int lane) { ++pc_[static_cast<std::size_t>(lane)]; });
}

void Warp::check_waits_for_block(const Warp& other) {
  const Mask live = all_ & ~ended_;
  now_ = pc_[0];
  if (has_ended() || other.has_ended())
    fail("lanes wait for their block, of which others have ended", 0);
  const auto first = static_cast<std::size_t>(first_of(live));
  now_ = pc_[first];
  const bool is_same = depth_[first] == other.depth_[first] && pc_[first] == other.pc_[first] &&
                       std::equal(calls_[first].begin(), calls_[first].begin() + depth_[first],
                                  other.calls_[first].begin());
  if (!is_same && ended_ == 0 && other.ended_ == 0) {
    fail("warps wait for their block at different places", 0);
  }
  for_each_lane(live, [&](int lane) {
    if (pc_[static_cast<std::size_t>(lane)] != pc_[first]) {
      fail("lanes of a warp wait for their block at different places", lane);
    }
  });
  if (ended_ != 0) fail("lanes wait for their block, of which others have ended", first_of(live));
}

bool Warp::votes() const {
  const Instruction& barrier = module_.code[static_cast<std::size_t>(pc_[0])];
  if (barrier.from[0] == kNoOperand) return false;
  const Word* vote = in(barrier.from[0]);
  return std::any_of(vote, vote + kLanes, [](Word word) { return (word & 1) != 0; });
}

void Warp::pass_block_barrier(bool any_votes) {
  const Instruction& barrier = module_.code[static_cast<std::size_t>(pc_[0])];
  if (barrier.to[0] != kNoOperand) std::fill_n(out(barrier.to[0]), kLanes, Word{any_votes});
  at_block_barrier_ = 0;
  for_each_lane(all_, [&](int lane) { ++pc_[static_cast<std::size_t>(lane)]; });
}

unsigned char* Warp::at(const Instruction& instruction, Word address, std::size_t bytes, int lane) {
  Space space = instruction.space;
  if (space == Space::shared) {
    address = static_cast<std::uint32_t>(address);
  } else if (space == Space::generic) {
    switch (address & kWindowMask) {
      case kSharedWindow:
        space = Space::shared;
        break;
      case kLocalWindow:
        space = Space::local;
        break;
      case kParameterWindow:
        space = Space::parameters;
        break;
      default:
        space = Space::global;
    }
    address &= ~kWindowMask;
  }
  if (address % bytes != 0) fail("an address that is no multiple of the access", lane);
  switch (space) {
    case Space::shared:
      if (!block_.holds(address, bytes)) fail("outside of shared memory", lane);
      return block_.shared.data() + address;
    case Space::local:
      if (address + bytes > static_cast<Word>(module_.local_bytes))
        fail("outside of local memory", lane);
      return local_.get() + static_cast<std::size_t>(lane * module_.local_bytes) + address;
    case Space::parameters:
      if (address + bytes > block_.launch.parameters.size()) fail("outside of parameters", lane);
      return const_cast<unsigned char*>(block_.launch.parameters.data()) + address;
    default:
      if (!machine_.memory.holds(address, bytes)) fail("outside of global memory", lane);
      return reinterpret_cast<unsigned char*>(address);
  }
}

void Warp::note(const Instruction& instruction, Word address, std::size_t bytes, int lane,
                Access access, bool changes) {
  if (!machine_.settings.finds_races) return;
  const Word window = instruction.space == Space::generic ? address & kWindowMask : 0;
  const bool is_shared = instruction.space == Space::shared || window == kSharedWindow;
  if (!is_shared && (window != 0 || instruction.space == Space::local ||
                     instruction.space == Space::parameters)) {
    return;
  }
  if (is_shared) address = kSharedWindow | static_cast<std::uint32_t>(address);
  const Stamp stamp{is_shared ? machine_.blocks_run_ : machine_.launches_run_, block_.index,
                    static_cast<std::uint32_t>(first_thread_ + lane), block_.epoch, epoch_};
  if (machine_.history_->is_race(address, bytes, stamp, access, changes)) {
    fail("memory that another thread uses, with no barrier between", lane);
  }
}

void GlobalMemory::allow(const void* begin, std::size_t bytes) {
  const auto address = reinterpret_cast<Word>(begin);
  ends_[address] = address + bytes;
}

void GlobalMemory::forbid(const void* begin) {
  ends_.erase(reinterpret_cast<Word>(begin));
  first_ = last_ = 0;
}

bool GlobalMemory::holds(Word address, std::size_t bytes) const {
  if (address >= first_ && address + bytes <= last_) return true;
  auto area = ends_.upper_bound(address);
  if (area == ends_.begin()) return false;
  --area;
  if (address + bytes > area->second) return false;
  first_ = area->first;
  last_ = area->second;
  return true;
}

Machine::Machine() : history_(std::make_unique<History>()) {}

Machine::~Machine() = default;

Counts Machine::run(const Launch& launch) {
  launch_ = &launch;
  counts_ = {};
  ++launches_run_;
  random_.seed(settings.seed + launches_run_);
  for (const auto& [begin, bytes] : launch.module->globals) memory.allow(begin.get(), bytes);
  Block block(*this);
  std::vector<std::uint32_t> order(launch.blocks);
  std::iota(order.begin(), order.end(), 0u);
  if (settings.shuffled) std::shuffle(order.begin(), order.end(), random_);
  try {
    for (const std::uint32_t k : order) block.run(k);
  } catch (const KernelError& error) {
    throw KernelError(launch.kernel->name + ": " + error.what());
  }
  return counts_;
}

}  // namespace diffsort::device
