#include "formats/safetensors.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>

#include "formats/files.h"

namespace kvasir::formats {
namespace {

Result<std::vector<TensorView>> parse(const std::string& bytes,
                                      std::map<std::string, std::string>* metadata = nullptr) {
  return parse_safetensors(std::as_bytes(std::span(bytes)), "file", metadata);
}

std::string refusal(const std::string& bytes) {
  const auto result = parse(bytes);
  if (result) return "";
  EXPECT_EQ(result.error().code(), ErrorCode::kMalformed);
  return result.error().what();
}

// A file of one tensor `a` whose entry is this.
std::string one(const std::string& entry, size_t data_bytes) {
  return safetensors_bytes(R"({"a":)" + entry + "}", data_bytes);
}

TEST(Safetensors, ReadsTensorsOfEveryWeightType) {
  const std::string bytes =
      safetensors_bytes(R"({"__metadata__":{"format":"pt"},)"
                        R"("c":{"dtype":"F16","shape":[3],"data_offsets":[16,22]},)"
                        R"("a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},)"
                        R"("b":{"dtype":"BF16","shape":[2,2],"data_offsets":[8,16]}}   )",
                        22);
  std::map<std::string, std::string> metadata;
  const auto tensors = parse(bytes, &metadata).value();
  ASSERT_EQ(tensors.size(), 3u);
  EXPECT_EQ(tensors[0].name, "a") << "ordered by name";
  EXPECT_EQ(tensors[0].dtype, DType::kF32);
  EXPECT_EQ(tensors[0].shape, (std::vector<int64_t>{2, 1}));
  EXPECT_EQ(tensors[1].dtype, DType::kBF16);
  EXPECT_EQ(tensors[1].elements(), 4);
  EXPECT_EQ(static_cast<int>(tensors[1].data[0]), 8);
  EXPECT_EQ(tensors[2].dtype, DType::kF16);
  EXPECT_EQ(tensors[2].data.size(), 6u);
  EXPECT_EQ(metadata.at("format"), "pt");
}

TEST(Safetensors, ReadsNoTensorsScalarsAndEmptyOnes) {
  EXPECT_EQ(parse(safetensors_bytes("{}", 0)).value().size(), 0u);
  const auto tensors =
      parse(safetensors_bytes(R"({"s":{"dtype":"F32","shape":[],"data_offsets":[0,4]},)"
                              R"("e":{"dtype":"F32","shape":[0,5],"data_offsets":[0,0]}})",
                              4))
          .value();
  ASSERT_EQ(tensors.size(), 2u);
  EXPECT_EQ(tensors[0].elements(), 0);
  EXPECT_EQ(tensors[1].elements(), 1);
}

TEST(Safetensors, RefusesWrongHeaderLengths) {
  EXPECT_EQ(refusal(""), "file: expected at least 8 bytes, found 0");
  EXPECT_EQ(refusal("1234567"), "file: expected at least 8 bytes, found 7");
  const std::string header = R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})";
  EXPECT_EQ(refusal(safetensors_bytes(header, 4, 1000)),
            "file: expected a header of at most 58 bytes, found a length of 1000; is this a "
            "safetensors file, whole?");
  for (const int64_t length : {int64_t{100'000'001}, INT64_MAX})
    EXPECT_NE(refusal(safetensors_bytes(header, 4, length)).find("expected a header of at most"),
              std::string::npos);
  EXPECT_EQ(refusal(safetensors_bytes(header, 4, 10)),
            "file: expected a JSON object as header, found something else");
  EXPECT_NE(refusal(safetensors_bytes("", 0)), "");
}

TEST(Safetensors, RefusesHeadersThatAreNoObjects) {
  for (const char* header : {"[]", "null", "{", "{}x", "\xff", "\"a\""})
    EXPECT_EQ(refusal(safetensors_bytes(header, 0)),
              "file: expected a JSON object as header, found something else")
        << header;
  std::string deep = R"({"a":)";
  for (int i = 0; i < 100000; ++i) deep += '[';
  EXPECT_NE(refusal(safetensors_bytes(deep, 0)), "") << "nesting is bounded";
}

TEST(Safetensors, RefusesWrongEntries) {
  const std::pair<const char*, const char*> cases[] = {
      {R"(3)", "expected an object with dtype, shape and data_offsets"},
      {R"({"dtype":"F32","shape":[1]})", "expected an object with dtype, shape and data_offsets"},
      {R"({"dtype":1,"shape":[1],"data_offsets":[0,4]})", "expected dtype as a string"},
      {R"({"dtype":"F31","shape":[1],"data_offsets":[0,4]})", "unknown dtype \"F31\""},
      {R"({"dtype":"F32","shape":1,"data_offsets":[0,4]})", "expected shape as a list of sizes"},
      {R"({"dtype":"F32","shape":[-1],"data_offsets":[0,4]})", "expected shape as a list of sizes"},
      {R"({"dtype":"F32","shape":[1.0],"data_offsets":[0,4]})",
       "expected shape as a list of sizes"},
      {R"({"dtype":"F32","shape":[99999999999999999999],"data_offsets":[0,4]})",
       "expected shape as a list of sizes"},
      {R"({"dtype":"F32","shape":[1],"data_offsets":[0]})", "expected data_offsets as two numbers"},
      {R"({"dtype":"F32","shape":[1],"data_offsets":[-4,0]})",
       "expected data_offsets as two numbers"},
      {R"({"dtype":"F32","shape":[1],"data_offsets":[0,"4"]})",
       "expected data_offsets as two numbers"}};
  for (const auto& [entry, message] : cases)
    EXPECT_EQ(refusal(one(entry, 4)), std::string("file: tensor a: ") + message) << entry;
}

TEST(Safetensors, RefusesOffsetsOutsideTheFileAndWrongSizes) {
  EXPECT_EQ(refusal(one(R"({"dtype":"F32","shape":[2],"data_offsets":[0,8]})", 4)),
            "file: tensor a: expected data offsets within 0 and 4, found 0 and 8; is the file "
            "truncated?");
  EXPECT_EQ(refusal(one(R"({"dtype":"F32","shape":[1],"data_offsets":[4,0]})", 4)),
            "file: tensor a: expected data offsets within 0 and 4, found 4 and 0; is the file "
            "truncated?");
  EXPECT_NE(
      refusal(one(R"({"dtype":"F32","shape":[1],"data_offsets":[0,18446744073709551615]})", 4)),
      "");
  EXPECT_EQ(refusal(one(R"({"dtype":"F32","shape":[3],"data_offsets":[0,8]})", 8)),
            "file: tensor a: expected 12 bytes for [3] F32, found 8");
  EXPECT_EQ(refusal(one(R"({"dtype":"BF16","shape":[2],"data_offsets":[0,8]})", 8)),
            "file: tensor a: expected 4 bytes for [2] BF16, found 8")
      << "the dtype lies";
  EXPECT_EQ(refusal(one(R"({"dtype":"F32","shape":[281474976710656,281474976710656],)"
                        R"("data_offsets":[0,0]})",
                        0)),
            "file: tensor a: shape [281474976710656, 281474976710656] overflows");
}

TEST(Safetensors, RefusesOverlapsHolesAndLeftovers) {
  const auto two = [](const char* first, const char* second, size_t bytes) {
    return refusal(safetensors_bytes(
        std::string(R"({"a":{"dtype":"U8","shape":[4],)"
                    R"("data_offsets":)") +
            first + R"(},"b":{"dtype":"U8","shape":[4],"data_offsets":)" + second + "}}",
        bytes));
  };
  EXPECT_EQ(two("[0,4]", "[4,8]", 8), "");
  EXPECT_EQ(two("[0,4]", "[2,6]", 6),
            "file: expected the data of b at offset 4, found it at 2: tensors overlap");
  EXPECT_EQ(two("[0,4]", "[0,4]", 4),
            "file: expected the data of b at offset 4, found it at 0: tensors overlap");
  EXPECT_EQ(two("[0,4]", "[6,10]", 10),
            "file: expected the data of b at offset 4, found it at 6: tensors leave a hole");
  EXPECT_EQ(two("[0,4]", "[4,8]", 9), "file: expected 8 bytes of data, found 9");
}

TEST(Safetensors, RefusesDuplicateNames) {
  EXPECT_EQ(refusal(safetensors_bytes(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                                      R"("a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
                                      2)),
            "file: the header names \"a\" twice");
}

TEST(Safetensors, RefusesWrongMetadata) {
  EXPECT_EQ(refusal(safetensors_bytes(R"({"__metadata__":3})", 0)),
            "file: expected __metadata__ as an object");
  EXPECT_EQ(refusal(safetensors_bytes(R"({"__metadata__":{"a":3}})", 0)),
            "file: __metadata__: expected text for \"a\", found number");
}

TEST(Safetensors, SurvivesEveryTruncationAndManyFlips) {
  const std::string whole = safetensors_bytes(
      R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},)"
      R"("b":{"dtype":"BF16","shape":[3],"data_offsets":[16,22]}})",
      22);
  for (size_t size = 0; size < whole.size(); ++size)
    EXPECT_FALSE(parse(whole.substr(0, size))) << "cut to " << size;
  constexpr unsigned kSeed = 7;
  SCOPED_TRACE(kSeed);
  std::mt19937 random(kSeed);
  int accepted = 0;
  for (int round = 0; round < 20000; ++round) {
    std::string bytes = whole;
    for (int flips = 0; flips < 2; ++flips)
      bytes[random() % (whole.size() - 22)] ^= static_cast<char>(1 << random() % 8);
    const auto result = parse(bytes);
    if (!result) continue;
    ++accepted;  // a letter of a name, say; what is accepted must lie inside the file
    for (const TensorView& tensor : result.value()) {
      const auto* begin = reinterpret_cast<const char*>(tensor.data.data());
      EXPECT_GE(begin, bytes.data());
      EXPECT_LE(begin + tensor.data.size(), bytes.data() + bytes.size());
    }
  }
  EXPECT_LT(accepted, 10000);
}

struct Written {
  std::vector<float> f32{1.5f, -2, 3, 4, 5, 6};
  std::vector<uint16_t> bf16{1, 2, 3};
  std::vector<TensorToWrite> tensors() const {
    return {{.name = "first",
             .dtype = DType::kF32,
             .shape = {2, 3},
             .data = std::as_bytes(std::span(f32))},
            {.name = "second \"quoted\"",
             .dtype = DType::kBF16,
             .shape = {3},
             .data = std::as_bytes(std::span(bf16))},
            {.name = "third", .dtype = DType::kF16, .shape = {0}, .data = {}}};
  }
};

TEST(Safetensors, WritesWhatItReads) {
  const TemporaryFolder folder;
  const Written written;
  const auto path = folder.path() / "out.safetensors";
  ASSERT_TRUE(write_safetensors(path, written.tensors(), {{"format", "pt"}}));
  const auto file = SafetensorsFile::open(path).value();
  EXPECT_EQ(file.metadata().at("format"), "pt");
  ASSERT_EQ(file.tensors().size(), 3u);
  const TensorView* first = file.find("first");
  ASSERT_NE(first, nullptr);
  EXPECT_EQ(first->shape, (std::vector<int64_t>{2, 3}));
  EXPECT_TRUE(std::ranges::equal(first->data, std::as_bytes(std::span(written.f32))));
  EXPECT_EQ(reinterpret_cast<uintptr_t>(first->data.data()) % 8, 0u) << "data is aligned";
  const TensorView* second = file.find("second \"quoted\"");
  ASSERT_NE(second, nullptr);
  EXPECT_EQ(second->dtype, DType::kBF16);
  EXPECT_EQ(file.find("fourth"), nullptr);
}

TEST(Safetensors, WritesWholeOrNotAtAll) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "out.safetensors";
  write_file(path, "old").value();
  EXPECT_FALSE(write_safetensors(folder.path() / "no" / "out.safetensors", Written().tensors()));
  std::filesystem::create_directory(folder.path() / "taken");
  EXPECT_FALSE(write_safetensors(folder.path() / "taken", Written().tensors()));
  EXPECT_EQ(read_file(path).value(), "old");
  ASSERT_TRUE(write_safetensors(path, Written().tensors()));
  EXPECT_NE(read_file(path).value(), "old");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 2);
}

// A folder of two shards.
class Sharded {
 public:
  Sharded() {
    folder.write("one.safetensors",
                 safetensors_bytes(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                                   R"("ids":{"dtype":"I64","shape":[1],"data_offsets":[4,12]}})",
                                   12));
    folder.write(
        "two.safetensors",
        safetensors_bytes(R"({"b":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]}})", 12));
    index(R"({"metadata":{"total_size":24},"weight_map":{"a":"one.safetensors",)"
          R"("ids":"one.safetensors","b":"two.safetensors"}})");
  }
  void index(const std::string& text) const { folder.write("model.safetensors.index.json", text); }
  std::string refusal() const {
    const auto files = WeightFiles::open(folder.path());
    return files ? "" : files.error().what();
  }
  TemporaryFolder folder;
};

TEST(WeightFiles, FindsTensorsInShards) {
  const Sharded sharded;
  const auto files = WeightFiles::open(sharded.folder.path()).value();
  EXPECT_EQ(files.names(), (std::vector<std::string>{"a", "b", "ids"}));
  EXPECT_EQ(files.total_bytes(), 24u);
  EXPECT_TRUE(files.contains("a"));
  EXPECT_FALSE(files.contains("c"));
  const int64_t shape[] = {2, 3};
  const TensorView b = files.get("b", shape).value();
  EXPECT_EQ(b.dtype, DType::kBF16);
  files.drop("b");
  EXPECT_EQ(static_cast<int>(b.data[5]), 5) << "dropped pages come back from the file";
  files.drop("not there");
}

TEST(WeightFiles, RefusesTensorsThatAreMissingOrOfAnotherShapeOrType) {
  const Sharded sharded;
  const auto files = WeightFiles::open(sharded.folder.path()).value();
  const std::string folder = sharded.folder.path().string();
  const int64_t two_three[] = {2, 3}, three_two[] = {3, 2}, single[] = {1};
  const Error missing = files.get("c", two_three).error();
  EXPECT_EQ(missing.code(), ErrorCode::kNotFound);
  EXPECT_EQ(std::string(missing.what()),
            folder + ": expected a tensor c [2, 3], found none of that name");
  const Error shape = files.get("b", three_two, "is hidden_size right?").error();
  EXPECT_EQ(shape.code(), ErrorCode::kMalformed);
  EXPECT_EQ(std::string(shape.what()),
            folder +
                "/two.safetensors: b: expected [3, 2] in F32, BF16 or F16, found [2, 3] BF16; "
                "is hidden_size right?");
  EXPECT_EQ(std::string(files.get("ids", single).error().what()),
            folder + "/one.safetensors: ids: expected [1] in F32, BF16 or F16, found [1] I64")
      << "other types may be there, but are no weights";
}

TEST(WeightFiles, RefusesWrongIndexes) {
  const Sharded sharded;
  const std::string folder = sharded.folder.path().string();
  const std::string index = folder + "/model.safetensors.index.json: ";
  for (const char* text : {"", "[]", "{}", R"({"weight_map":[]})", "{\"weight_map\":"}) {
    sharded.index(text);
    EXPECT_EQ(sharded.refusal(), index + "expected a JSON object with a weight_map") << text;
  }
  sharded.index(R"({"weight_map":{"a":"../one.safetensors"}})");
  EXPECT_EQ(sharded.refusal(), index + "weight_map: expected a file name of this folder for a");
  sharded.index(R"({"weight_map":{"a":"three.safetensors"}})");
  EXPECT_EQ(sharded.refusal(),
            folder + "/three.safetensors: cannot open: No such file or directory");
  sharded.index(R"({"weight_map":{"a":"two.safetensors"}})");
  EXPECT_EQ(sharded.refusal(),
            folder +
                "/two.safetensors: the index places tensor a in this file, but it is not "
                "there");
}

TEST(WeightFiles, ReadsASingleFileAndMissesNone) {
  const TemporaryFolder folder;
  const auto nothing = WeightFiles::open(folder.path());
  ASSERT_FALSE(nothing);
  EXPECT_EQ(nothing.error().code(), ErrorCode::kNotFound);
  folder.write("model.safetensors",
               safetensors_bytes(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4));
  EXPECT_TRUE(WeightFiles::open(folder.path()).value().contains("a"));
}

}  // namespace
}  // namespace kvasir::formats
