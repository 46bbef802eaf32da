#include "tasks/tiny.h"

#include <gtest/gtest.h>

namespace kvasir::tasks {
namespace {

struct Golden {
  const char* task;
  TinyOptions options;
  uint64_t hash;
  size_t context, turns;
};

const Golden kGoldens[] = {
    {"kv", {}, 0xb52fe1c6906a6317, 387, 40},
    {"kv", {.entries = 4096}, 0x19d0722e5574c18c, 32771, 50},
    {"ps", {}, 0xbc8221566015df89, 579, 85},
    {"hop", {}, 0x81526374ac2fb9c3, 451, 40},
    {"hop", {.collect = true}, 0x3eabf36633a63c96, 451, 70},
    {"copy", {}, 0x34a21e21e37ec431, 760, 154},
    {"qa", {}, 0x5c9fb7999ce88d24, 451, 45},
    {"choice", {}, 0xeb2e2ddc4df7a216, 451, 120},
    {"icl", {}, 0x4d37d20bede6fc99, 1053, 45},
    {"find", {}, 0x0a5a08715623f4d4, 515, 30},
    {"sum", {}, 0x4d5fb9bf0901e95e, 795, 40},
    {"mix1", {.turns = 8}, 0xe3f0cfd792dd7790, 825, 60},
    {"mix2", {.turns = 8, .blocks = 16}, 0xe074943fb95d3af2, 744, 138},
};

TEST(Tiny, WholeInstancesAreTheDefinitions) {
  for (const Golden& golden : kGoldens) {
    SCOPED_TRACE(golden.task);
    const auto session = make_tiny(golden.task, golden.options, 0, 0);
    ASSERT_TRUE(session.ok()) << session.error().what();
    size_t turns = 0;
    for (const TinyTurn& turn : session.value().turns)
      turns += turn.query.size() + turn.answer.size();
    EXPECT_EQ(session.value().context.size(), golden.context);
    EXPECT_EQ(turns, golden.turns);
    EXPECT_EQ(tiny_hash(session.value()), golden.hash) << std::hex << tiny_hash(session.value());
  }
}

TEST(Tiny, TheFirstInstanceInFull) {
  const TinySession session = make_tiny("kv", {.entries = 4, .turns = 2}, 0, 0).value();
  EXPECT_EQ(session.context, (TinyIds{1,  3, 47, 64, 8,  95, 32, 7,  56, 59, 8,  89, 93, 7,
                                      39, 91, 8, 89, 40, 7,  75, 37, 8,  83, 83, 7,  4}));
  ASSERT_EQ(session.turns.size(), 2u);
  EXPECT_EQ(session.turns[0].query, (TinyIds{5, 16, 56, 59, 6}));
  EXPECT_EQ(session.turns[0].answer, (TinyIds{89, 93, 2}));
  EXPECT_EQ(session.turns[1].query, (TinyIds{5, 16, 75, 37, 6}));
  EXPECT_EQ(session.turns[1].answer, (TinyIds{83, 83, 2}));
}

}  // namespace
}  // namespace kvasir::tasks
