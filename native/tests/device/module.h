// Kernels as nvcc writes them in PTX, read into instructions that a Machine (machine.h) executes.
//
// There is no recursion in what is read, so every function has registers and memory of its own, at
// fixed places: kernels, of which one runs at a time, share theirs.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace diffsort::device {

constexpr int kLanes = 32;
using Word = std::uint64_t;  // a register of one lane, of which narrower values are the low bits
using Mask = std::uint32_t;  // of lanes

enum class Space : std::uint8_t { generic, global, shared, local, parameters };

// Where generic addresses of the spaces lie that are not the host's memory.
constexpr Word kSharedWindow = Word{1} << 60, kLocalWindow = Word{2} << 60;
constexpr Word kParameterWindow = Word{3} << 60, kWindowMask = Word{15} << 60;

class Warp;
struct Instruction;
using Execute = void (*)(Warp&, const Instruction&, Mask);

// What lets lanes go on elsewhere than at the next instruction, or wait.
enum class Control : std::uint8_t {
  none,
  branch,
  call,
  end,
  block_barrier,
  warp_barrier,
  together,
  trap
};

// A register of a module (0 and above), or one of its constants (~0 and below).
using Operand = std::int32_t;
constexpr Operand kNoOperand = INT32_MIN;

struct Instruction {
  Execute execute = nullptr;
  Control control = Control::none;
  Space space = Space::generic;
  bool guard_negated = false;
  bool is_volatile = false;
  bool leads = false;          // begins a basic block
  std::uint8_t count = 1;      // of the elements that a vector load or store moves
  Operand guard = kNoOperand;  // the predicate of lanes that execute
  std::array<Operand, 4> to{kNoOperand, kNoOperand, kNoOperand, kNoOperand};
  std::array<Operand, 5> from{kNoOperand, kNoOperand, kNoOperand, kNoOperand, kNoOperand};
  std::int64_t offset = 0;           // of an address
  std::int32_t target = -1;          // of a branch, an instruction; of a call, a Call
  std::int32_t line = 0;             // in the PTX
  std::int32_t post_dominators = 0;  // on all ways to the function's end (post_dominators.h)
};

// A lane's memory that calls pass arguments by.
struct Bytes {
  std::int32_t at = 0, size = 0;
};

struct Function {
  std::string name;
  bool is_kernel = false;
  std::int32_t first = -1;        // instruction
  std::vector<Bytes> parameters;  // of a kernel: in its block of parameters
  std::vector<Bytes> results;
  std::int32_t parameter_bytes = 0;  // of a kernel
  std::vector<Bytes> shared;         // static shared memory; a kernel's with that of what it calls
  std::vector<std::int32_t> calls;
  std::int32_t most_threads = 1024;  // of a kernel's block
};

struct Call {
  std::string callee;
  std::int32_t function = -1;
  std::vector<Bytes> arguments, results;
};

enum SpecialRegister : Operand {
  kThread,
  kThreads,
  kBlock,
  kBlocks,
  kLane,
  kLanesBelow,
  kLanesUpTo,
  kLanesAbove,
  kLanesFrom,
  kSpecialRegisters
};

struct Module {
  std::vector<Instruction> code;
  std::vector<Function> functions;
  std::unordered_map<std::string, std::int32_t> function_by_name;
  std::vector<Call> calls;
  std::vector<std::array<Word, kLanes>> constants;  // the same in every lane
  std::vector<std::pair<std::unique_ptr<unsigned char[]>, std::size_t>> globals;
  std::int32_t registers = kSpecialRegisters;  // how many
  std::int32_t local_bytes = 0;                // of a lane
  std::int32_t dynamic_shared = 0;             // where shared memory of a launch begins
};

// Throws std::runtime_error for PTX that it does not know.
Module read_module(const std::string& ptx);

}  // namespace diffsort::device
