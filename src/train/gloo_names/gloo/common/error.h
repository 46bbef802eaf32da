#pragma once
#include <exception>
