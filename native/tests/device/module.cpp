#include "module.h"

#include <cstring>
#include <stdexcept>
#include <string_view>
#include <utility>

#include "instructions.h"
#include "post_dominators.h"

namespace diffsort::device {
namespace {

struct Token {
  std::string_view text;
  std::int32_t line;
};

bool in_word(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         c == '$' || c == '%' || c == '.';
}

std::vector<Token> tokens_of(std::string_view text) {
  std::vector<Token> tokens;
  std::int32_t line = 1;
  for (std::size_t i = 0; i < text.size();) {
    if (text[i] == '\n') ++line;
    if (static_cast<unsigned char>(text[i]) <= ' ') {
      ++i;
    } else if (text.substr(i, 2) == "//") {
      i = std::min(text.find('\n', i), text.size());
    } else if (text[i] == '"') {
      const std::size_t end = text.find('"', i + 1) + 1;
      tokens.push_back({text.substr(i, end - i), line});
      i = end;
    } else {
      std::size_t end = i + 1;
      if (in_word(text[i])) {
        while (end < text.size() && in_word(text[end])) ++end;
      }
      tokens.push_back({text.substr(i, end - i), line});
      i = end;
    }
  }
  return tokens;
}

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts(1);
  for (const char c : text) {
    if (c == separator) {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

std::int32_t bytes_of_type(const std::string& type) {
  return type == "pred" ? 1 : std::stoi(type.substr(1)) / 8;
}

struct Symbol {
  enum Kind { register_, local, shared, parameter, global } kind;
  Operand operand;  // the register, or a constant that is the address
  Bytes bytes;
};

// Of an instruction: registers or constants, several in {a, b} and a|b; or an address.
struct Argument {
  std::vector<Operand> operands;
  bool is_address = false;
  bool is_kernel_parameter = false;
  bool is_register = false;
  std::int64_t offset = 0;
};

using Scope = std::unordered_map<std::string, Symbol>;

class Reader {
 public:
  explicit Reader(std::string_view text) : tokens_(tokens_of(text)) {
    scopes_.emplace_back();
    module_.constants.emplace_back();  // the address of dynamic shared memory, known at last
  }

  Module read() {
    while (next_ < tokens_.size()) read_declaration();
    place_registers();
    module_.dynamic_shared = (shared_bytes_ + 15) / 16 * 16;
    module_.constants[0].fill(static_cast<Word>(module_.dynamic_shared));
    for (Call& call : module_.calls) {
      const auto found = module_.function_by_name.find(call.callee);
      if (found == module_.function_by_name.end()) fail("no function " + call.callee);
      call.function = found->second;
    }
    for (Function& function : module_.functions) {
      if (function.is_kernel) add_shared_of_callees(function, function);
    }
    return std::move(module_);
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    const std::int32_t line = tokens_[std::min(next_, tokens_.size() - 1)].line;
    throw std::runtime_error("PTX, line " + std::to_string(line) + ": " + what);
  }

  std::string_view peek() const { return next_ < tokens_.size() ? tokens_[next_].text : ""; }
  std::string_view take() {
    if (next_ == tokens_.size()) fail("ends too soon");
    return tokens_[next_++].text;
  }
  bool take_if(std::string_view text) {
    const bool is = peek() == text;
    next_ += is;
    return is;
  }
  void expect(std::string_view text) {
    if (!take_if(text)) fail("expected " + std::string(text) + ", not " + std::string(peek()));
  }
  void skip_past(std::string_view text) {
    while (take() != text) {
    }
  }

  // Registers of kernels lie where those of other kernels lie: while a function is read, they are
  // counted from 0, and place_registers moves those of functions behind all kernels'.
  void place_registers() {
    const std::int32_t behind = most_kernel_registers_;
    for (const auto& [first, last] : code_of_functions_) {
      for (std::int32_t i = first; i < last; ++i) {
        Instruction& instruction = module_.code[static_cast<std::size_t>(i)];
        const auto move = [&](Operand& operand) {
          if (operand >= kSpecialRegisters) operand += behind;
        };
        move(instruction.guard);
        for (Operand& operand : instruction.to) move(operand);
        for (Operand& operand : instruction.from) move(operand);
      }
    }
    module_.registers = kSpecialRegisters + most_kernel_registers_ + function_registers_;
  }

  static void add_shared(Function& function, const Bytes& bytes) {
    for (const Bytes& other : function.shared) {
      if (other.at == bytes.at) return;
    }
    function.shared.push_back(bytes);
  }

  void add_shared_of_callees(Function& kernel, const Function& caller) {
    for (const std::int32_t index : caller.calls) {
      const Call& call = module_.calls[static_cast<std::size_t>(index)];
      const Function& callee = module_.functions[static_cast<std::size_t>(call.function)];
      for (const Bytes& bytes : callee.shared) add_shared(kernel, bytes);
      add_shared_of_callees(kernel, callee);
    }
  }

  Operand constant(Word value) {
    const auto [found, is_new] =
        constant_of_.emplace(value, static_cast<Operand>(module_.constants.size()));
    if (is_new) module_.constants.emplace_back().fill(value);
    return ~found->second;
  }

  Operand new_register() {
    return kSpecialRegisters + (in_kernel_ ? kernel_registers_++ : function_registers_++);
  }

  Bytes new_local(std::int32_t size) {
    const Bytes bytes{(module_.local_bytes + 15) / 16 * 16, size};
    module_.local_bytes = bytes.at + size;
    return bytes;
  }

  const Symbol* find(const std::string& name) const {
    for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
      const auto found = scope->find(name);
      if (found != scope->end()) return &found->second;
    }
    return nullptr;
  }

  // .align 8 .b8 name[40]: what is declared, up to what follows.
  struct Variable {
    std::string name;
    std::int32_t size = 0;
    bool is_array = false;
  };
  Variable read_variable() {
    Variable variable;
    std::int32_t element = 0;
    while (peek().substr(0, 1) == ".") {
      const std::string word(take());
      if (word == ".align") {
        take();
      } else if (word != ".ptr" && word != ".global" && word != ".param" && word != ".shared") {
        element = bytes_of_type(word.substr(1));
      }
    }
    variable.name = take();
    variable.size = element;
    if (take_if("[")) {
      variable.is_array = true;
      variable.size = peek() == "]" ? 0 : element * std::stoi(std::string(take()));
      expect("]");
    }
    return variable;
  }

  void declare(const std::string& name, Symbol::Kind kind, Bytes bytes) {
    scopes_.back()[name] = {kind, constant(static_cast<Word>(bytes.at)), bytes};
  }

  void declare_shared(bool is_extern) {
    const Variable variable = read_variable();
    expect(";");
    if (is_extern) {
      scopes_.back()[variable.name] = {Symbol::shared, ~0, {}};
      return;
    }
    const Bytes bytes{(shared_bytes_ + 15) / 16 * 16, variable.size};
    shared_bytes_ = bytes.at + bytes.size;
    declare(variable.name, Symbol::shared, bytes);
  }

  void declare_global() {
    const Variable variable = read_variable();
    const auto size = static_cast<std::size_t>(variable.size);
    module_.globals.emplace_back(new unsigned char[size](), size);
    const auto address = reinterpret_cast<Word>(module_.globals.back().first.get());
    scopes_.back()[variable.name] = {Symbol::global, constant(address), {}};
    if (peek() == "=") fail("numbers of " + variable.name + " are not read");
    expect(";");
  }

  void read_declaration() {
    const std::string word(take());
    if (word == ".version" || word == ".target" || word == ".address_size") {
      take();
      while (take_if(",")) take();
    } else if (word == ".extern") {
      expect(".shared");
      declare_shared(true);
    } else if (word == ".shared") {
      declare_shared(false);
    } else if (word == ".global" || word == ".const") {
      declare_global();
    } else if (word == ".entry" || word == ".func") {
      read_function(word == ".entry");
    } else if (word != ".visible" && word != ".weak") {
      fail("unknown declaration " + word);
    }
  }

  std::vector<Bytes> read_parameters(std::int32_t& kernel_bytes) {
    std::vector<Bytes> all;
    expect("(");
    while (!take_if(")")) {
      take_if(",");
      std::int32_t align = 0;
      for (std::size_t i = next_; tokens_[i].text.substr(0, 1) == "."; ++i) {
        if (tokens_[i].text == ".align") align = std::stoi(std::string(tokens_[++i].text));
      }
      const Variable variable = read_variable();
      Bytes bytes;
      if (in_kernel_) {
        if (align == 0) align = variable.size;
        kernel_bytes = (kernel_bytes + align - 1) / align * align;
        bytes = {kernel_bytes, variable.size};
        kernel_bytes += variable.size;
        declare(variable.name, Symbol::parameter, bytes);
      } else {
        bytes = new_local(variable.size);
        declare(variable.name, Symbol::local, bytes);
      }
      all.push_back(bytes);
    }
    return all;
  }

  void read_function(bool is_kernel) {
    Function function;
    function.is_kernel = is_kernel;
    in_kernel_ = is_kernel;
    kernel_registers_ = 0;
    scopes_.emplace_back();
    if (peek() == "(") function.results = read_parameters(function.parameter_bytes);
    function.name = take();
    if (peek() == "(") function.parameters = read_parameters(function.parameter_bytes);
    while (peek() != "{" && peek() != ";") {
      if (take_if(".maxntid")) {
        function.most_threads = std::stoi(std::string(peek()));
      } else {
        take();
      }
    }
    if (!take_if(";")) {
      function.first = static_cast<std::int32_t>(module_.code.size());
      function_ = &function;
      read_body();
      function_ = nullptr;
      const auto last = static_cast<std::int32_t>(module_.code.size());
      note_post_dominators(module_.code, function.first, last);
      if (!is_kernel) code_of_functions_.emplace_back(function.first, last);
      module_.function_by_name[function.name] = static_cast<std::int32_t>(module_.functions.size());
      module_.functions.push_back(function);
    }
    most_kernel_registers_ = std::max(most_kernel_registers_, kernel_registers_);
    scopes_.pop_back();
  }

  void read_body() {
    std::size_t depth = 0;
    labels_.clear();
    branches_.clear();
    do {
      if (take_if("{")) {
        scopes_.emplace_back();
        ++depth;
      } else if (take_if("}")) {
        scopes_.pop_back();
        --depth;
      } else {
        read_statement();
      }
    } while (depth > 0);
    for (const auto& [instruction, label] : branches_) {
      const auto found = labels_.find(label);
      if (found == labels_.end()) fail("no label " + label);
      if (static_cast<std::size_t>(found->second) == module_.code.size())
        fail("nothing at " + label);
      module_.code[instruction].target = found->second;
    }
  }

  void read_statement() {
    if (take_if(".reg")) return read_registers();
    if (take_if(".local")) {
      const Variable variable = read_variable();
      expect(";");
      return declare(variable.name, Symbol::local, new_local(variable.size));
    }
    if (take_if(".param")) {
      const Variable variable = read_variable();
      expect(";");
      return declare(variable.name, Symbol::local, new_local(variable.size));
    }
    if (take_if(".shared")) return declare_shared(false);
    if (peek() == ".pragma") return skip_past(";");
    if (next_ + 1 < tokens_.size() && tokens_[next_ + 1].text == ":") {
      labels_[std::string(take())] = static_cast<std::int32_t>(module_.code.size());
      return expect(":");
    }
    read_instruction();
  }

  void read_registers() {
    take();  // the type
    do {
      const std::string name(take());
      if (take_if("<")) {
        const int count = std::stoi(std::string(take()));
        expect(">");
        for (int i = 0; i < count; ++i) {
          scopes_.back()[name + std::to_string(i)] = {Symbol::register_, new_register(), {}};
        }
      } else {
        scopes_.back()[name] = {Symbol::register_, new_register(), {}};
      }
    } while (take_if(","));
    expect(";");
  }

  static Operand special_register(const std::string& name) {
    static const std::unordered_map<std::string, Operand> all{
        {"%tid.x", kThread},          {"%ntid.x", kThreads},
        {"%ctaid.x", kBlock},         {"%nctaid.x", kBlocks},
        {"%laneid", kLane},           {"%lanemask_lt", kLanesBelow},
        {"%lanemask_le", kLanesUpTo}, {"%lanemask_gt", kLanesAbove},
        {"%lanemask_ge", kLanesFrom}};
    const auto found = all.find(name);
    return found == all.end() ? kNoOperand : found->second;
  }

  // A number as PTX writes it: 12, 0x1f, 0f3F800000 or 0d3FF0000000000000.
  static Word number(const std::string& text) {
    if (text.substr(0, 2) == "0f" || text.substr(0, 2) == "0d") {
      return std::stoull(text.substr(2), nullptr, 16);
    }
    return std::stoull(text, nullptr, 0);
  }

  Operand read_operand(Argument& argument) {
    if (take_if("-")) return constant(~number(std::string(take())) + 1);
    const std::string name(take());
    if (name[0] >= '0' && name[0] <= '9') return constant(number(name));
    if (name == "%tid.y" || name == "%tid.z" || name == "%ctaid.y" || name == "%ctaid.z") {
      return constant(0);
    }
    if (name == "%ntid.y" || name == "%ntid.z") return constant(1);
    const Operand special = special_register(name);
    if (special != kNoOperand) return special;
    const Symbol* symbol = find(name);
    if (symbol == nullptr) fail("unknown name " + name);
    argument.is_kernel_parameter |= symbol->kind == Symbol::parameter;
    argument.is_register |= symbol->kind == Symbol::register_;
    if (symbol->kind == Symbol::shared && symbol->bytes.size > 0)
      add_shared(*function_, symbol->bytes);
    return symbol->operand;
  }

  Argument read_argument() {
    Argument argument;
    if (take_if("{")) {
      do argument.operands.push_back(read_operand(argument));
      while (take_if(","));
      expect("}");
    } else if (take_if("[")) {
      argument.is_address = true;
      argument.operands.push_back(read_operand(argument));
      if (take_if("+")) {
        const bool negative = take_if("-");
        argument.offset = static_cast<std::int64_t>(number(std::string(take())));
        if (negative) argument.offset = -argument.offset;
      }
      expect("]");
    } else {
      argument.operands.push_back(read_operand(argument));
      if (take_if("|")) argument.operands.push_back(read_operand(argument));
    }
    return argument;
  }

  std::vector<Argument> read_arguments() {
    std::vector<Argument> arguments;
    if (take_if(";")) return arguments;
    do arguments.push_back(read_argument());
    while (take_if(","));
    expect(";");
    return arguments;
  }

  void read_instruction() {
    Instruction instruction;
    instruction.line = tokens_[next_].line;
    if (take_if("@")) {
      instruction.guard_negated = take_if("!");
      Argument guard;
      instruction.guard = read_operand(guard);
    }
    const std::string name(take());
    const std::vector<std::string> parts = split(name, '.');
    const std::string& kind = parts[0];
    if (kind == "bra") {
      instruction.control = Control::branch;
      branches_.emplace_back(module_.code.size(), std::string(take()));
      expect(";");
    } else if (kind == "call") {
      instruction.control = Control::call;
      instruction.target = read_call();
    } else if (kind == "ret" || kind == "exit") {
      instruction.control = Control::end;
      expect(";");
    } else if (kind == "trap") {
      instruction.control = Control::trap;
      expect(";");
    } else if (kind == "membar" || kind == "fence") {
      return skip_past(";");  // lanes see each other's writes at once here
    } else {
      decode(instruction, name, parts, read_arguments());
    }
    module_.code.push_back(instruction);
  }

  void decode(Instruction& instruction, const std::string& name,
              const std::vector<std::string>& parts, const std::vector<Argument>& arguments) {
    const std::string& kind = parts[0];
    if (kind == "bar" || kind == "barrier") {
      const bool is_warp = parts[1] == "warp";
      instruction.control = is_warp ? Control::warp_barrier : Control::block_barrier;
      const bool is_vote = name == "bar.red.or.pred";
      if (is_warp) instruction.from[3] = arguments[0].operands[0];
      if (is_vote) {
        instruction.to[0] = arguments[0].operands[0];
        instruction.from[0] = arguments[2].operands[0];
      }
      if (!is_warp && (arguments.size() != (is_vote ? 3 : 1) ||
                       arguments[is_vote ? 1 : 0].operands[0] != constant(0))) {
        fail("another barrier than that of the whole block");
      }
      return;
    }
    if (kind == "ld" || kind == "st" || kind == "atom" || kind == "red") {
      decode_memory(instruction, parts, arguments);
    } else if (kind == "shfl") {
      together(instruction, find_shuffle(parts[2]), arguments);
    } else if (kind == "vote") {
      const bool is_ballot = parts[1] == "ballot" || parts[2] == "ballot";
      together(instruction, is_ballot ? ballot() : nullptr, arguments);
    } else if (kind == "redux") {
      together(instruction, find_reduction(parts[2] + "." + parts[3]), arguments);
    } else {
      set(instruction.to, arguments[0].operands, 0);
      std::size_t count = 0;
      for (std::size_t i = 1; i < arguments.size(); ++i) {
        count = set(instruction.from, arguments[i].operands, count);
      }
      const std::size_t results = arguments[0].operands.size();
      if (name == "mov.b64" && results == 2) {
        instruction.execute = unpack_words();
      } else if (name == "mov.b64" && count == 2) {
        instruction.execute = pack_words();
      } else if (results == 1 && (kind != "mov" || count == 1)) {
        instruction.execute = find_arithmetic(name);
      }
    }
    if (instruction.execute == nullptr) fail("unknown instruction " + name);
  }

  // The mask of the lanes is the last argument.
  void together(Instruction& instruction, Execute execute, const std::vector<Argument>& arguments) {
    instruction.control = Control::together;
    instruction.execute = execute;
    set(instruction.to, arguments[0].operands, 0);
    for (std::size_t i = 1; i + 1 < arguments.size(); ++i) {
      instruction.from[i - 1] = arguments[i].operands[0];
    }
    instruction.from[3] = arguments.back().operands[0];
  }

  template <std::size_t kCount>
  std::size_t set(std::array<Operand, kCount>& all, const std::vector<Operand>& operands,
                  std::size_t at) {
    for (const Operand operand : operands) {
      if (at == kCount) fail("too many operands");
      all[at++] = operand;
    }
    return at;
  }

  void decode_memory(Instruction& instruction, const std::vector<std::string>& parts,
                     const std::vector<Argument>& arguments) {
    std::string operation;
    for (std::size_t i = 1; i + 1 < parts.size(); ++i) {
      const std::string& part = parts[i];
      if (part == "global") {
        instruction.space = Space::global;
      } else if (part == "shared") {
        instruction.space = Space::shared;
      } else if (part == "local") {
        instruction.space = Space::local;
      } else if (part == "param") {
        instruction.space = Space::parameters;
      } else if (part == "v2" || part == "v4") {
        instruction.count = static_cast<std::uint8_t>(part[1] - '0');
      } else if (part == "volatile") {
        instruction.is_volatile = true;
      } else if (part != "nc" && part != "relaxed" && part != "gpu" && part != "cta") {
        operation = part;
      }
    }
    const bool has_result = parts[0] == "ld" || parts[0] == "atom";
    const Argument& address = arguments[has_result];
    if (!address.is_address) fail("expected an address");
    if (instruction.space == Space::parameters && !address.is_kernel_parameter &&
        !(address.is_register && in_kernel_)) {
      instruction.space = Space::local;  // where functions have their parameters
    }
    instruction.from[0] = address.operands[0];
    instruction.offset = address.offset;
    if (has_result) set(instruction.to, arguments[0].operands, 0);
    if (parts[0] == "ld") {
      instruction.execute = find_load(parts.back());
    } else if (parts[0] == "st") {
      set(instruction.from, arguments[1].operands, 1);
      instruction.execute = find_store(parts.back());
    } else {
      for (std::size_t i = has_result + 1u; i < arguments.size(); ++i) {
        instruction.from[i - has_result] = arguments[i].operands[0];
      }
      instruction.execute = find_atomic(operation, parts.back());
    }
  }

  Bytes bytes_of(const std::string& name) const {
    const Symbol* symbol = find(name);
    if (symbol == nullptr || symbol->kind != Symbol::local) fail("no argument " + name);
    return symbol->bytes;
  }

  // call.uni (result), function, (a, b);
  std::int32_t read_call() {
    Call call;
    if (take_if("(")) {
      call.results.push_back(bytes_of(std::string(take())));
      expect(")");
      expect(",");
    }
    call.callee = take();
    expect(",");
    expect("(");
    while (!take_if(")")) {
      take_if(",");
      call.arguments.push_back(bytes_of(std::string(take())));
    }
    expect(";");
    module_.calls.push_back(call);
    function_->calls.push_back(static_cast<std::int32_t>(module_.calls.size()) - 1);
    return static_cast<std::int32_t>(module_.calls.size()) - 1;
  }

  std::vector<Token> tokens_;
  std::size_t next_ = 0;
  Module module_;
  std::vector<Scope> scopes_;
  std::unordered_map<Word, Operand> constant_of_;
  Function* function_ = nullptr;
  bool in_kernel_ = false;
  std::int32_t kernel_registers_ = 0, most_kernel_registers_ = 0, function_registers_ = 0;
  std::int32_t shared_bytes_ = 0;
  std::vector<std::pair<std::int32_t, std::int32_t>> code_of_functions_;
  std::unordered_map<std::string, std::int32_t> labels_;
  std::vector<std::pair<std::size_t, std::string>> branches_;
};

}  // namespace

Module read_module(const std::string& ptx) {
  return Reader(ptx).read();
}

}  // namespace diffsort::device
