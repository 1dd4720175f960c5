# Warnings are errors, the same list for gcc and clang.
add_compile_options(-Wall -Wextra -Wshadow -Wconversion -Wsign-conversion -Wstrict-prototypes
    -Wmissing-prototypes -Wformat=2 -Wvla -Wundef -Wpointer-arith -Werror -fno-strict-aliasing
    -fstack-protector-strong -D_GNU_SOURCE)
if(CMAKE_C_COMPILER_ID STREQUAL "GNU")
    # gcc's guess is often wrong at -O2 with error paths; clang and the sanitizers look too.
    add_compile_options(-Wno-maybe-uninitialized)
endif()
# Floating point: no contraction and no reassociation, so that sums have the same bits everywhere.
add_compile_options(-ffp-contract=off)
if(CMAKE_BUILD_TYPE STREQUAL "Release")
    add_compile_options(-D_FORTIFY_SOURCE=2)
endif()
if(S2M3_SANITIZE)
    add_compile_options(-fsanitize=${S2M3_SANITIZE} -fno-omit-frame-pointer -g -O1)
    add_link_options(-fsanitize=${S2M3_SANITIZE})
    if(S2M3_SANITIZE MATCHES "undefined")
        add_compile_options(-fno-sanitize-recover=all)
    endif()
endif()
if(S2M3_FUZZ)
    # Coverage of the libraries too, or the fuzzer is blind to what it drives.
    add_compile_options(-fsanitize=fuzzer-no-link)
endif()
