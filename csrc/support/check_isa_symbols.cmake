# An inline function that is compiled once with AVX-512 and once without keeps a single copy at link
# time, and that copy may be the one an older processor cannot run. So every weak symbol of an
# instruction set's objects must carry that set's namespace in its name. Run by CMakeLists.txt.
foreach(object IN LISTS OBJECTS)
  execute_process(COMMAND ${NM} --defined-only ${object} OUTPUT_VARIABLE symbols
                  COMMAND_ERROR_IS_FATAL ANY)
  string(REGEX MATCHALL " [WVu] [^\n]*" weak "${symbols}")
  list(FILTER weak EXCLUDE REGEX "${ISA}|asan|tsan|DW\\.ref")
  if(weak)
    message(FATAL_ERROR "${object} shares these symbols with other instruction sets: ${weak}")
  endif()
endforeach()
