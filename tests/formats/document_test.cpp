#include "formats/document.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "formats/files.h"

namespace kvasir::formats {
namespace {

// A folder of its own as PATH, with a pdftotext of the test's making.
class Document : public testing::Test {
 protected:
  void SetUp() override {
    old_path_ = std::getenv("PATH");
    ::setenv("PATH", folder_.path().c_str(), 1);
  }
  void TearDown() override { ::setenv("PATH", old_path_.c_str(), 1); }

  void pdftotext(const std::string& script) const {
    const auto path = folder_.write("pdftotext", "#!/bin/sh\n" + script);
    std::filesystem::permissions(path, std::filesystem::perms::owner_all);
  }
  std::string path_of_pdf() const { return folder_.write("a b';.pdf", "%PDF-1.4\nbytes\n"); }

  TemporaryFolder folder_;
  std::string old_path_;
};

TEST_F(Document, ReadsTextAsItIs) {
  EXPECT_EQ(read_document(folder_.write("a.txt", "text\f%PDF-")).value(), "text\f%PDF-");
  EXPECT_EQ(read_document(folder_.write("empty", "")).value(), "");
  EXPECT_EQ(read_document(folder_.path() / "none").error().code(), ErrorCode::kNotFound);
}

TEST_F(Document, NamesThePackageWherePdftotextIsMissing) {
  const Error error = read_document(path_of_pdf()).error();
  EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
  EXPECT_EQ(std::string(error.what()),
            path_of_pdf() +
                ": expected the program pdftotext to read a PDF, found none; install "
                "the package poppler-utils or give a text file");
}

TEST_F(Document, GivesPdftotextTheBytesAndTakesItsText) {
  // The arguments, then the input: nothing else reaches the program, the file's name least of all.
  pdftotext("echo \"$@\"; while read -r line; do echo \"<$line>\"; done; printf 'page\\ftwo'");
  EXPECT_EQ(read_document(path_of_pdf()).value(), "-enc UTF-8 - -\n<%PDF-1.4>\n<bytes>\npage\ntwo");
}

TEST_F(Document, TakesMuchTextAndManyComplaints) {
  pdftotext(
      "i=0; while [ $i -lt 20000 ]; do echo 'a line of text'; echo 'Syntax Warning: odd' >&2; "
      "i=$((i+1)); done");
  EXPECT_EQ(read_document(path_of_pdf()).value().size(), 20000 * 15u);
}

TEST_F(Document, SaysWhyPdftotextRefuses) {
  pdftotext("echo 'Syntax Error: Could not read xref table' >&2; echo 'more' >&2; exit 1");
  const Error error = read_document(path_of_pdf()).error();
  EXPECT_EQ(error.code(), ErrorCode::kMalformed);
  EXPECT_EQ(std::string(error.what()),
            path_of_pdf() +
                ": expected a PDF that pdftotext reads, found one that it refuses: "
                "Syntax Error: Could not read xref table");
}

TEST_F(Document, SaysThatScannedPagesHaveNoText) {
  pdftotext("printf '\\f\\n\\f'");
  const Error error = read_document(path_of_pdf()).error();
  EXPECT_EQ(error.code(), ErrorCode::kMalformed);
  EXPECT_NE(std::string(error.what()).find("scanned pages"), std::string::npos);
}

// The smallest PDF with a line of text, its table of offsets computed.
std::string small_pdf(const std::string& text) {
  const std::string stream = "BT /F1 12 Tf 20 100 Td (" + text + ") Tj ET";
  const std::string objects[] = {
      "<< /Type /Catalog /Pages 2 0 R >>", "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
      "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 200 200] /Contents 4 0 R "
      "/Resources << /Font << /F1 5 0 R >> >> >>",
      "<< /Length " + std::to_string(stream.size()) + " >>\nstream\n" + stream + "\nendstream",
      "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"};
  std::string pdf = "%PDF-1.4\n", table = "xref\n0 6\n0000000000 65535 f \n";
  for (int i = 0; i < 5; ++i) {
    const std::string offset = std::to_string(pdf.size());
    table += std::string(10 - offset.size(), '0') + offset + " 00000 n \n";
    pdf += std::to_string(i + 1) + " 0 obj\n" + objects[i] + "\nendobj\n";
  }
  const std::string start = std::to_string(pdf.size());
  return pdf + table + "trailer\n<< /Size 6 /Root 1 0 R >>\nstartxref\n" + start + "\n%%EOF\n";
}

TEST_F(Document, ReadsARealPdfWherePdftotextIsInstalled) {
  ::setenv("PATH", old_path_.c_str(), 1);
  const auto path = folder_.write("real.pdf", small_pdf("A dark and stormy night"));
  const auto text = read_document(path);
  if (!text && text.error().code() == ErrorCode::kUnsupported)
    GTEST_SKIP() << "pdftotext is not installed";
  EXPECT_EQ(text.value().substr(0, 24), "A dark and stormy night\n");
}

}  // namespace
}  // namespace kvasir::formats
