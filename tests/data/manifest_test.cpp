// SHA-256 and the manifest of a corpus.

#include "data/manifest.h"

#include <gtest/gtest.h>

#include "base/thread_pool.h"
#include "data/sha256.h"
#include "formats/files.h"

namespace kvasir::data {
namespace {

using formats::TemporaryFolder;

TEST(Sha256, GivesThePublishedDigests) {
  EXPECT_EQ(sha256_hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256_hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(sha256_hex(std::string(1000000, 'a')),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Sha256, PiecesAddUp) {
  const std::string text(200, 'x');
  for (size_t cut = 0; cut <= text.size(); ++cut) {
    Sha256 hash;
    hash.add(text.substr(0, cut));
    hash.add(text.substr(cut));
    EXPECT_EQ(hex(hash.digest()), sha256_hex(text)) << cut;
  }
}

class ManifestTest : public testing::Test {
 protected:
  std::string refusal(const Manifest& manifest) {
    const auto checked = check_corpus(manifest, folder_.path(), pool_);
    return checked ? "" : checked.error().what();
  }
  TemporaryFolder folder_;
  ThreadPool pool_{2};
};

TEST_F(ManifestTest, IsWrittenAndReadBack) {
  folder_.write("b.txt", "abc");
  folder_.write("a \"quoted\" title.txt", "");
  folder_.write("notes.md", "no text");
  const Manifest manifest = make_manifest(folder_.path(), pool_).value();
  ASSERT_EQ(manifest.titles.size(), 2u);
  EXPECT_EQ(manifest.titles[1].name, "b");
  EXPECT_EQ(manifest.titles[1].bytes, 3);
  EXPECT_EQ(manifest.titles[1].sha256, sha256_hex("abc"));
  const Manifest again = parse_manifest(manifest_json(manifest), "test").value();
  EXPECT_EQ(again.titles, manifest.titles);
  EXPECT_NE(manifest.find("b"), nullptr);
  EXPECT_EQ(manifest.find("c"), nullptr);
  EXPECT_EQ(refusal(manifest), "");
}

TEST_F(ManifestTest, NamesTheFirstDifferenceAndCountsAll) {
  for (const char* name : {"a.txt", "b.txt", "c.txt"}) folder_.write(name, "text");
  const Manifest manifest = make_manifest(folder_.path(), pool_).value();
  folder_.write("b.txt", "tent");
  std::string said = refusal(manifest);
  EXPECT_NE(said.find("b.txt: expected SHA-256"), std::string::npos) << said;
  EXPECT_NE(said.find("1 of 3 titles"), std::string::npos) << said;
  folder_.write("a.txt", "longer");
  said = refusal(manifest);
  EXPECT_NE(said.find("a.txt: expected 4 bytes, found 6"), std::string::npos) << said;
  std::filesystem::remove(folder_.path() / "a.txt");
  said = refusal(manifest);
  EXPECT_NE(said.find("a.txt: cannot open"), std::string::npos) << said;
  EXPECT_NE(said.find("2 of 3 titles"), std::string::npos) << said;
}

TEST_F(ManifestTest, NeedsTexts) {
  EXPECT_EQ(make_manifest(folder_.path(), pool_).error().code(), ErrorCode::kNotFound);
  EXPECT_EQ(make_manifest(folder_.path() / "none", pool_).error().code(), ErrorCode::kNotFound);
  EXPECT_EQ(check_corpus({}, folder_.path() / "none", pool_).error().code(), ErrorCode::kNotFound);
}

TEST_F(ManifestTest, RefusesWhatIsNone) {
  const std::string hash = sha256_hex("");
  const auto said = [](const std::string& json) -> std::string {
    const auto manifest = parse_manifest(json, "m.json");
    return manifest ? "" : manifest.error().what();
  };
  EXPECT_NE(said("{").find("m.json: expected a manifest"), std::string::npos);
  EXPECT_NE(said("[]").find("\"titles\""), std::string::npos);
  EXPECT_NE(said("{\"titles\": [3]}").find("titles[0]: expected an object"), std::string::npos);
  const auto with_name = [&](const std::string& name) {
    return said(R"({"titles": [{"name": ")" + name + R"(", "bytes": 0, "sha256": ")" + hash +
                "\"}]}");
  };
  EXPECT_EQ(with_name("a"), "");
  for (const char* name : {"", "../a", "a/b", ".a"})
    EXPECT_NE(with_name(name).find("titles[0]: name: expected"), std::string::npos) << name;
  EXPECT_NE(said(R"({"titles": [{"name": "a", "bytes": 0, "sha256": "12"}]})").find("sha256"),
            std::string::npos);
  const std::string title = R"({"name": "a", "bytes": 0, "sha256": ")" + hash + "\"}";
  EXPECT_NE(said("{\"titles\": [" + title + "," + title + "]}").find("'a' twice"),
            std::string::npos);
}

}  // namespace
}  // namespace kvasir::data
