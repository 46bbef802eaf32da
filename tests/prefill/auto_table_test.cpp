// What auto takes of a table of measurements.

#include "prefill/auto_table.h"

#include <gtest/gtest.h>

#include "base/method.h"

namespace kvasir::prefill {
namespace {

const MethodChoice kDense{"dense", {}}, kTri{"tri_shape", {{"last", "200"}}},
    kMix{"trianglemix", {}};

AutoMeasurement measured(int64_t length, const MethodChoice& method, double seconds, double kl = 0,
                         int64_t same = 4) {
  return {.length = length,
          .method = method,
          .seconds = seconds,
          .kl = kl,
          .questions = 4,
          .same = same};
}

std::string chosen(const AutoDevice& device, int64_t length, double bound = kAutoBound) {
  const AutoChoice choice = choose_prefill(device, length, bound);
  EXPECT_FALSE(choice.reason.empty());
  return method_text(choice.method);
}

TEST(AutoTable, TakesTheFastestThatAnswersAsDenseDoes) {
  const AutoDevice device{
      "a",
      {measured(1000, kDense, 1), measured(1000, kTri, 0.5), measured(1000, kMix, 0.9),
       measured(4000, kDense, 9), measured(4000, kTri, 2, 0.2), measured(4000, kMix, 3, 0.01),
       measured(16000, kDense, 99), measured(16000, kTri, 9, 0, 3), measured(16000, kMix, 30)}};
  EXPECT_EQ(chosen(device, 1000), "tri_shape:last=200");
  EXPECT_EQ(chosen(device, 4000), "trianglemix") << "tri_shape's KL is above the bound";
  EXPECT_EQ(chosen(device, 4000, 0.3), "tri_shape:last=200");
  EXPECT_EQ(chosen(device, 16000), "trianglemix") << "tri_shape answers one of four otherwise";
  EXPECT_EQ(chosen(device, 16000, 100), "trianglemix");
  EXPECT_EQ(chosen(device, 4000, 0.001), "dense");
}

TEST(AutoTable, BetweenLengthsBothSidesCount) {
  const AutoDevice device{
      "a",
      {measured(1000, kDense, 1), measured(1000, kTri, 2), measured(1000, kMix, 0.5),
       measured(4000, kDense, 9), measured(4000, kTri, 1), measured(4000, kMix, 3)}};
  EXPECT_EQ(chosen(device, 4000), "tri_shape:last=200");
  EXPECT_EQ(chosen(device, 3999), "trianglemix") << "tri_shape loses to dense at 1000";
  EXPECT_EQ(chosen(device, 1001), "trianglemix");
  EXPECT_EQ(chosen(device, 999), "dense") << "shorter than all that was measured";
  EXPECT_EQ(chosen(device, 5000), "tri_shape:last=200");
  EXPECT_EQ(chosen(device, 5001), "dense") << "longer by more than a quarter";
  EXPECT_NE(choose_prefill(device, 999, 1).reason.find("1000"), std::string::npos);
}

TEST(AutoTable, NeverLosesToDense) {
  const AutoDevice device{"a", {measured(1000, kDense, 1), measured(1000, kTri, 0.97)}};
  EXPECT_EQ(chosen(device, 1000), "dense") << "within the noise of a measurement";
  EXPECT_EQ(chosen({"a", {}}, 1000), "dense");
  EXPECT_EQ(chosen({"a", {measured(1000, kTri, 0.1)}}, 1000), "dense") << "nothing to compare with";
}

TEST(AutoTable, IsReadAsItIsWritten) {
  AutoTable table;
  table.at("a").measurements = {measured(1000, kTri, 0.25, 0.5, 3)};
  table.at("b \"c\"").measurements = {measured(10, kDense, 2), measured(20, kMix, 3)};
  EXPECT_EQ(&table.at("a"), &table.devices[0]) << "not made twice";
  const AutoTable read = parse_auto_table(write_auto_table(table), "test").value();
  ASSERT_EQ(read.devices.size(), 2u);
  EXPECT_EQ(read.find("nothing"), nullptr);
  ASSERT_NE(read.find("b \"c\""), nullptr);
  EXPECT_EQ(read.find("b \"c\"")->measurements.size(), 2u);
  const AutoMeasurement& found = read.find("a")->measurements.at(0);
  EXPECT_EQ(method_text(found.method), "tri_shape:last=200");
  EXPECT_EQ(found.length, 1000);
  EXPECT_EQ(found.seconds, 0.25);
  EXPECT_EQ(found.kl, 0.5);
  EXPECT_EQ(found.same, 3);
  EXPECT_EQ(found.questions, 4);
}

TEST(AutoTable, MistakesAreNamed) {
  const auto fault = [](const std::string& text) {
    const auto parsed = parse_auto_table(text, "file");
    EXPECT_FALSE(parsed.ok()) << text;
    if (parsed.ok()) return std::string();
    EXPECT_EQ(parsed.error().code(), ErrorCode::kMalformed);
    return std::string(parsed.error().message());
  };
  fault("");
  fault("[]");
  EXPECT_NE(fault("{}").find("kvasir-prefill-auto/1"), std::string::npos);
  const std::string head = R"({"schema": "kvasir-prefill-auto/1", "devices": )";
  EXPECT_NE(fault(head + "3}").find("devices"), std::string::npos);
  EXPECT_NE(fault(head + R"([{"device": "a"}]})").find("measurements"), std::string::npos);
  const std::string row = head + R"([{"device": "a", "measurements": [{"length": 5, )";
  EXPECT_NE(fault(row + R"("seconds": 1, "kl": 0, "questions": 1, "same": 1}]}]})").find("method"),
            std::string::npos);
  EXPECT_NE(fault(row + R"("method": "dense", "seconds": -1, "kl": 0}]}]})").find("seconds"),
            std::string::npos);
  fault(row + R"("method": "dense", "seconds": 1, "kl": 0, "questions": 1, "same": 1,
                "options": {"a": 1}}]}]})");
  fault(head + "[1]}");
  fault(head + R"([{"device": "a", "measurements": [7]}]})");
}

}  // namespace
}  // namespace kvasir::prefill
