#pragma once
// Texts that a run reads: of a file, or of every *.txt of a folder in the order of their names.

#include <filesystem>
#include <string>
#include <vector>

namespace kvasir::eval {

std::vector<std::filesystem::path> document_files(const std::filesystem::path& path);
// Throws Error{kNotFound, kIo}.
std::vector<std::string> load_documents(const std::filesystem::path& path);

}  // namespace kvasir::eval
