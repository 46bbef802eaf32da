#pragma once
// Gloo is inside libtorch, but its headers are not among those that libtorch brings, and c10d's
// ProcessGroupGloo.hpp includes them. These declare the names that it mentions and nothing else;
// all work with them happens in libtorch.
#include <functional>
#include <memory>
#include <string>
#include <vector>
