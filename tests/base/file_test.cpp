#include "base/file.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <thread>

namespace kvasir {
namespace {

class File : public testing::Test {
 protected:
  void SetUp() override {
    folder_ =
        std::filesystem::temp_directory_path() / ("kvasir-file-test-" + std::to_string(::getpid()));
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::filesystem::path folder_;
};

TEST_F(File, WritesWholeOrNotAtAll) {
  const auto path = folder_ / "a.txt";
  ASSERT_TRUE(write_file(path, "old"));
  {
    auto file = AtomicFile::create(path);
    ASSERT_TRUE(file);
    ASSERT_TRUE(file.value().write("half"));
  }
  EXPECT_EQ(read_file(path).value(), "old");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_), {}), 1);
  ASSERT_TRUE(write_file(path, "new"));
  EXPECT_EQ(read_file(path).value(), "new");
}

TEST_F(File, SaysWhatIsWrong) {
  EXPECT_EQ(read_file(folder_ / "none").error().code(), ErrorCode::kNotFound);
  EXPECT_EQ(read_file(folder_).error().code(), ErrorCode::kInvalidArgument);
  EXPECT_FALSE(write_file(folder_ / "no" / "such" / "folder", "x"));
}

TEST_F(File, ReadsPipesAndDevicesToTheirEnd) {
  EXPECT_EQ(read_file("/dev/null").value(), "");
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const std::string text(200000, 'x');
  std::thread writer([&] {
    size_t done = 0;
    while (done < text.size()) done += ::write(ends[1], text.data() + done, text.size() - done);
    ::close(ends[1]);
  });
  const auto read = read_file("/dev/fd/" + std::to_string(ends[0]));
  writer.join();
  ::close(ends[0]);
  EXPECT_EQ(read.value(), text);
  EXPECT_EQ(MappedFile::open("/dev/null").error().code(), ErrorCode::kInvalidArgument);
}

TEST_F(File, NeverReplacesADeviceOrDirectory) {
  EXPECT_EQ(write_file("/dev/null", "x").error().code(), ErrorCode::kInvalidArgument);
  EXPECT_TRUE(std::filesystem::is_character_file("/dev/null"));
  EXPECT_EQ(AtomicFile::create(folder_).error().code(), ErrorCode::kInvalidArgument);
}

TEST_F(File, NamesTheFileThatCannotBeWritten) {
  const auto path = folder_ / "no" / "such" / "file";
  const Error error = AtomicFile::create(path).error();
  EXPECT_EQ(error.code(), ErrorCode::kIo);
  EXPECT_EQ(error.context(), path.string());
  EXPECT_NE(error.message().find("No such file or directory"), std::string::npos);
}

TEST_F(File, MapsEmptyAndFull) {
  ASSERT_TRUE(write_file(folder_ / "empty", ""));
  EXPECT_EQ(MappedFile::open(folder_ / "empty").value().bytes().size(), 0u);
  ASSERT_TRUE(write_file(folder_ / "full", std::string(100000, 'x')));
  auto mapped = MappedFile::open(folder_ / "full").value();
  EXPECT_EQ(mapped.bytes().size(), 100000u);
  mapped.drop(0, 100000);
  EXPECT_EQ(static_cast<char>(mapped.bytes()[99999]), 'x');
}

}  // namespace
}  // namespace kvasir
