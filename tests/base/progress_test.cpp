#include "base/progress.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

namespace kvasir {
namespace {

// A progress whose clock and output are the test's.
struct Watched {
  explicit Watched(bool terminal, int width = 80, Progress::Unit unit = Progress::Unit::kTokens)
      : progress({.write = [this](std::string_view text) { written += text; },
                  .terminal = terminal,
                  .width = width,
                  .now = [this] { return now; }},
                 "reading", unit) {}
  std::string written;
  double now = 100;
  Progress progress;
};

// Columns that a line takes: code points.
int64_t columns(const std::string& line) {
  return std::count_if(line.begin(), line.end(), [](char c) { return (c & 0xc0) != 0x80; });
}

TEST(Progress, ShowsAmountRateAndTimeLeft) {
  Watched watched(true);
  watched.progress.update(1000, 50000);
  watched.now += 1;
  watched.progress.update(5000, 50000);
  EXPECT_EQ(watched.progress.line(),
            "reading  █░░░░░░░░░░░░   10 %  5,000 / 50,000 tokens  4,000 tokens/s  0:11 left");
}

TEST(Progress, NeverWrapsALine) {
  for (int width = 10; width < 200; ++width) {
    Watched watched(true, width);
    watched.progress.update(0, 123456);
    watched.now += 2;
    watched.progress.update(61728, 123456);
    EXPECT_LT(columns(watched.progress.line()), width) << watched.progress.line();
  }
}

TEST(Progress, RedrawsInPlaceAndClears) {
  Watched watched(true);
  watched.progress.update(0, 10);
  EXPECT_EQ(watched.written, "") << "a quick activity draws nothing";
  watched.now += 0.2;
  watched.progress.update(5, 10);
  EXPECT_TRUE(watched.written.starts_with("\rreading")) << watched.written;
  EXPECT_TRUE(watched.written.ends_with("\x1b[K"));
  EXPECT_EQ(watched.written.find('\n'), std::string::npos);
  watched.written.clear();
  watched.progress.update(6, 10);
  EXPECT_EQ(watched.written, "") << "too soon";
  watched.progress.update(10, 10);
  EXPECT_NE(watched.written.find("100 %"), std::string::npos) << "the end is always drawn";
  watched.written.clear();
  watched.progress.clear();
  EXPECT_EQ(watched.written, "\r\x1b[K");
}

TEST(Progress, WritesLinesNowAndThenElsewhere) {
  Watched watched(false);
  for (int second = 0; second <= 12; ++second) {
    watched.progress.update(second * 10, 1000);
    watched.now += 1;
  }
  watched.progress.clear();
  EXPECT_EQ(watched.written,
            "reading    5 %  50 / 1,000 tokens  10 tokens/s  1:35 left\n"
            "reading   10 %  100 / 1,000 tokens  10 tokens/s  1:30 left\n");
}

TEST(Progress, RateIsThatOfTheLastSeconds) {
  Watched watched(false);
  watched.progress.update(0, 0);
  watched.now += 1;
  watched.progress.update(1000000, 0);
  for (int i = 0; i < 20; ++i) {
    watched.now += 1;
    watched.progress.update(1000000 + 100 * (i + 1), 0);
  }
  EXPECT_EQ(watched.progress.line(), "reading  1,002,000 tokens  100 tokens/s");
}

TEST(Progress, CountsBytes) {
  Watched watched(false, 80, Progress::Unit::kBytes);
  watched.progress.update(0, 3 << 20);
  watched.now += 1;
  watched.progress.update(3 << 19, 3 << 20);
  EXPECT_EQ(watched.progress.line(), "reading   50 %  1.5 MiB / 3.0 MiB  1.5 MiB/s  0:01 left");
}

TEST(Progress, CountsRequestsAndShowsSlowRates) {
  Watched watched(false, 80, Progress::Unit::kRequests);
  watched.progress.update(0, 50);
  watched.now += 4;
  watched.progress.update(3, 50);
  EXPECT_EQ(watched.progress.line(), "reading    6 %  3 / 50 requests  0.8 requests/s  1:03 left");
}

TEST(Progress, FormatsFigures) {
  EXPECT_EQ(with_thousands(0), "0");
  EXPECT_EQ(with_thousands(999), "999");
  EXPECT_EQ(with_thousands(1234567), "1,234,567");
  EXPECT_EQ(with_thousands(-123456), "-123,456");
  EXPECT_EQ(as_duration(59.6), "1:00");
  EXPECT_EQ(as_duration(75), "1:15");
  EXPECT_EQ(as_duration(3700), "1:01:40");
  EXPECT_EQ(as_bytes(1023), "1023 B");
  EXPECT_EQ(as_bytes(1536), "1.5 KiB");
  EXPECT_EQ(as_bytes(int64_t{5} << 40), "5.0 TiB");
}

}  // namespace
}  // namespace kvasir
