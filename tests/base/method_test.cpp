#include "base/method.h"

#include <gtest/gtest.h>

namespace kvasir {
namespace {

Result<void> check_share(std::string_view value) {
  if (value == "0.5") return {};
  return Error(ErrorCode::kInvalidArgument, "expected 0.5, found " + std::string(value));
}

constexpr MethodOption kOptions[] = {{"density", "share of the keys", check_share},
                                     {"sink", "first keys", check_share}};
constexpr Method kTable[] = {
    {.name = "plain", .description = "nothing", .capabilities = {}, .options = {}},
    {.name = "sparse", .description = "some", .capabilities = {}, .options = kOptions}};

TEST(Method, IsFoundByName) {
  ASSERT_NE(find_method(kTable, "sparse"), nullptr);
  EXPECT_EQ(find_method(kTable, "sparse")->description, "some");
  EXPECT_EQ(find_method(kTable, "spars"), nullptr);
  EXPECT_EQ(find_method({}, "plain"), nullptr);
}

TEST(Method, RefusesOptionsItDoesNotKnow) {
  EXPECT_TRUE(check_method_options(kTable[1], "prefill", {{"density", "0.5"}, {"sink", "0.5"}}));
  const Error unknown = check_method_options(kTable[1], "prefill", {{"densty", "0.5"}}).error();
  EXPECT_EQ(unknown.code(), ErrorCode::kInvalidArgument);
  EXPECT_STREQ(unknown.what(),
               "--prefill sparse:densty: expected one of density, sink, found \"densty\"");
  EXPECT_STREQ(check_method_options(kTable[0], "compress", {{"a", "1"}}).error().what(),
               "--compress plain:a: the method takes no options, found \"a\"");
}

TEST(Method, RefusesValuesOutOfRange) {
  EXPECT_STREQ(check_method_options(kTable[1], "prefill", {{"density", "2"}}).error().what(),
               "--prefill sparse:density: expected 0.5, found 2");
}

}  // namespace
}  // namespace kvasir
