#pragma once
// Documents as text: UTF-8 files as they are, PDF files through pdftotext.

#include <filesystem>
#include <string>

#include "base/result.h"

namespace kvasir::formats {

// The bytes of a file, pipe or device; where they are a PDF, the text that pdftotext (of the
// package poppler-utils, found through PATH) makes of it. `path` "-" is standard input. The text is
// not checked: it may be empty or something else than UTF-8. Errors: kNotFound, kInvalidArgument,
// kIo, kUnsupported (no pdftotext), kMalformed (pdftotext refuses the file).
Result<std::string> read_document(const std::filesystem::path& path);

}  // namespace kvasir::formats
