// Shared libraries that are opened at run time and stay open.
#pragma once

#include <stdexcept>
#include <string>

#if defined(_WIN32)
#include <windows.h>
#else
#include <dlfcn.h>
#endif

namespace ppo {

// The function of that name and type in the library, or null. Throws std::runtime_error if it cannot be opened.
template <typename Function>
Function* library_function(const std::string& path, const char* name) {
#if defined(_WIN32)
  const HMODULE library = LoadLibraryA(path.c_str());
  if (library == nullptr) throw std::runtime_error("cannot open " + path);
  return reinterpret_cast<Function*>(GetProcAddress(library, name));
#else
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) throw std::runtime_error(dlerror());
  return reinterpret_cast<Function*>(dlsym(library, name));
#endif
}

}  // namespace ppo
