// A device that runs kernels on the CPU, instruction by instruction, and finds what a GPU might not
// show: addresses outside of what a kernel was given, lanes that wait for others in vain, and two
// threads that use the same memory without a barrier between them.
//
// A warp's lanes have program counters of their own, as those of sm_70 and later. In order, those go
// first that are the farthest from the end, so lanes that part come together again where all their
// ways meet, which is where compilers have lanes wait for each other. Shuffled, which go on is drawn:
// what rests on lanes staying together fails then.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <map>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

#include "history.h"
#include "module.h"

namespace diffsort::device {

// What a kernel did that it must not do.
class KernelError : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Settings {
  bool shuffled = false;
  bool finds_races = false;
  std::uint64_t seed = 0;
};

// Of all warps of a launch.
struct Counts {
  std::uint64_t instructions = 0;       // issued by warps
  std::uint64_t lane_instructions = 0;  // executed by lanes

  Counts& operator+=(const Counts& other);
};

struct Launch {
  const Module* module;
  const Function* kernel;
  std::uint32_t blocks, threads;
  std::vector<unsigned char> parameters;
  std::size_t shared_bytes;  // dynamic
};

class Machine;
class Block;

class Warp {
 public:
  Warp(Block& block, int first_thread);

  void start(std::uint32_t block_index);
  // Lets groups of lanes go on, at most so many, until every lane waits for the block or has ended;
  // whether there are lanes that can go on.
  bool run(int groups);

  bool has_ended() const { return ended_ == all_; }
  void check_waits_for_block(const Warp& other);  // at the same barrier as the other warp
  // Once no lane of the block has anything else to do: whether one brings a true predicate to the
  // barrier, and then that of the whole block.
  bool votes() const;
  void pass_block_barrier(bool any_votes);

  const Word* in(Operand operand) const {
    return operand >= 0 ? &registers_[static_cast<std::size_t>(operand) * kLanes]
                        : constants_[~operand].data();
  }
  Word* out(Operand operand) { return &registers_[static_cast<std::size_t>(operand) * kLanes]; }

  // The memory of an access by a lane, or an error; the host's address.
  unsigned char* at(const Instruction&, Word address, std::size_t bytes, int lane);
  // That a lane is going to use it, and whether that changes what is there.
  void note(const Instruction&, Word address, std::size_t bytes, int lane, Access, bool changes);
  [[noreturn]] void fail(const std::string& what, int lane) const;

 private:
  struct Frame {
    std::int32_t call = 0;  // the instruction
  };
  static constexpr int kMostCalls = 12;

  Mask choose() const;
  bool is_ahead(int lane, int other) const;
  std::int32_t farthest_other(Mask group) const;
  void run_group(Mask group);
  void move_to(Mask lanes, std::int32_t pc);
  Mask guarded(const Instruction&, Mask) const;
  void control(const Instruction&, Mask group, std::int32_t pc);
  void call(const Instruction&, Mask group, std::int32_t pc);
  void end(Mask lanes);
  void wait_for_lanes(const Instruction&, Mask group, std::int32_t pc);
  void wait_for_warp(const Instruction&, Mask group);
  void copy(const std::vector<Bytes>& from, const std::vector<Bytes>& to, int lane);

  Block& block_;
  Machine& machine_;
  const Module& module_;
  const std::array<Word, kLanes>* constants_;
  int first_thread_;
  Mask all_, ended_ = 0, at_block_barrier_ = 0, at_warp_barrier_ = 0, together_ = 0;
  std::array<Mask, kLanes> waits_for_{};
  std::array<std::int32_t, kLanes> pc_{}, depth_{};
  std::array<std::array<std::int32_t, kMostCalls>, kLanes> calls_{};
  std::uint32_t epoch_ = 0;  // how often all lanes have waited for each other
  std::int32_t now_ = 0;     // the instruction being executed, for messages
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };
  std::unique_ptr<Word[], Free> registers_;
  std::unique_ptr<unsigned char[], Free> local_;  // lane by lane
};

// The host's memory that kernels may use.
class GlobalMemory {
 public:
  void allow(const void* begin, std::size_t bytes);
  void forbid(const void* begin);
  bool holds(Word address, std::size_t bytes) const;

 private:
  std::map<Word, Word> ends_;          // by beginnings
  mutable Word first_ = 0, last_ = 0;  // of what was found last
};

class Machine {
 public:
  Machine();
  ~Machine();

  Settings settings;
  GlobalMemory memory;

  // Throws KernelError.
  Counts run(const Launch& launch);

 private:
  friend class Warp;
  friend class Block;

  const Launch* launch_ = nullptr;
  std::mt19937_64 random_;
  std::unique_ptr<History> history_;
  Counts counts_;
  std::uint32_t launches_run_ = 0, blocks_run_ = 0;
};

}  // namespace diffsort::device
