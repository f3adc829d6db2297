// Who used each byte last, to find threads that use the same one without a barrier between them.
#pragma once

#include <array>
#include <cstddef>
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
  // Whether some of the bytes are used without an order. Writing what is there already is no race with
  // others that write.
  bool is_race(Word address, std::size_t bytes, const Stamp& stamp, Access access, bool changes) {
    bool race = false;
    for (const Word end = address + bytes; address < end;) {
      Page& page = page_of(address);
      const Word at = address % kPage, word = at / kWord * kWord;
      const bool is_whole = at == word && end - address >= kWord;
      if (!is_whole && !page.is_split[word / kWord]) split(page, word);
      const bool at_once = is_whole && !page.is_split[word / kWord];
      race |= is_race(page.bytes[at], stamp, access, changes);
      address += at_once ? kWord : 1;
    }
    return race;
  }

 private:
  static constexpr Word kPage = 4096, kWord = 4;
  struct Byte {
    Stamp write, atomic, volatile_read;
    std::array<Stamp, 2> reads;
  };
  // Of a word whose bytes have been used together alone, the first one stands for all.
  struct Page {
    std::array<Byte, kPage> bytes;
    std::array<bool, kPage / kWord> is_split{};
  };

  static void split(Page& page, Word word) {
    for (Word k = 1; k < kWord; ++k) page.bytes[word + k] = page.bytes[word];
    page.is_split[word / kWord] = true;
  }

  static bool is_race(Byte& byte, const Stamp& stamp, Access access, bool changes) {
    bool race = false;
    const auto meets = [&](const Stamp& other) { race |= other.run != 0 && !other.before(stamp); };
    if (access != Access::write || changes) meets(byte.write);
    if (access == Access::volatile_read) {
      byte.volatile_read = stamp;
      return race;
    }
    if (access == Access::write) meets(byte.volatile_read);
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

  Page& page_of(Word address) {
    if (last_ == nullptr || address / kPage != last_number_) {
      std::unique_ptr<Page>& found = pages_[address / kPage];
      if (found == nullptr) found = std::make_unique<Page>();
      last_ = found.get();
      last_number_ = address / kPage;
    }
    return *last_;
  }

  std::unordered_map<Word, std::unique_ptr<Page>> pages_;
  Page* last_ = nullptr;
  Word last_number_ = 0;
};

}  // namespace diffsort::device
