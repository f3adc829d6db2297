// Who used each byte last, to find threads that use the same one without a barrier between them.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <unordered_map>

#include "module.h"

namespace diffsort::device {

enum class Access : std::uint8_t { read, volatile_read, write, atomic };

// An access of a thread. Two of the same run are in order if they are the same thread's, or if one
// of the counts of barriers, that of their block or of their warp, tells them apart.
struct Stamp {
  std::uint32_t run = 0;  // a launch, or for shared memory a block of one
  std::uint32_t block = 0, thread = 0, block_epoch = 0, warp_epoch = 0;

  bool before(const Stamp& later) const {
    if (run != later.run) return true;
    if (block != later.block) return false;
    return thread == later.thread || block_epoch != later.block_epoch ||
           (thread / kLanes == later.thread / kLanes && warp_epoch != later.warp_epoch);
  }
};

class History {
 public:
  // Whether the byte at the address is used without an order. Writing what is there already is no
  // race with others that write.
  bool is_race(Word address, const Stamp& stamp, Access access, bool changes) {
    Byte& byte = (*page(address))[address % kPage];
    bool race = false;
    const auto meets = [&](const Stamp& other) { race |= other.run != 0 && !other.before(stamp); };
    if (access != Access::write || changes) meets(byte.write);
    if (access == Access::volatile_read) return race;
    if (access != Access::atomic) meets(byte.atomic);
    if (access != Access::read) {
      for (const Stamp& read : byte.reads) meets(read);
    }
    if (access == Access::write) {
      byte.write = stamp;
    } else if (access == Access::atomic) {
      byte.atomic = stamp;
    } else if (byte.reads[0].before(stamp)) {
      byte.reads[0] = stamp;
    } else {
      byte.reads[1] = stamp;  // the second of those that have no order
    }
    return race;
  }

 private:
  static constexpr Word kPage = 4096;
  struct Byte {
    Stamp write, atomic;
    std::array<Stamp, 2> reads;
  };
  using Page = std::array<Byte, kPage>;

  Page* page(Word address) {
    if (last_ == nullptr || address / kPage != last_number_) {
      std::unique_ptr<Page>& found = pages_[address / kPage];
      if (found == nullptr) found = std::make_unique<Page>();
      last_ = found.get();
      last_number_ = address / kPage;
    }
    return last_;
  }

  std::unordered_map<Word, std::unique_ptr<Page>> pages_;
  Page* last_ = nullptr;
  Word last_number_ = 0;
};

}  // namespace diffsort::device
