EAPI=8

DESCRIPTION="Compresses by block sorting: libbz2 and bzip2"
HOMEPAGE="https://sourceware.org/bzip2/"
SRC_URI="https://sourceware.org/pub/bzip2/bzip2-${PV}.tar.gz"

LICENSE="BZIP2"
SLOT="0/1"
KEYWORDS="amd64 arm ppc64 riscv s390 sparc x86"

src_compile() {
	local flags=( CC="${CC:-gcc}" LDFLAGS="${LDFLAGS}" )
	emake -f Makefile-libbz2_so "${flags[@]}" \
		CFLAGS="${CFLAGS} -fPIC -D_FILE_OFFSET_BITS=64" \
		CC="${CC:-gcc} ${LDFLAGS}" all
	# The programs are linked with the library just made, not with a static copy of it.
	local p
	for p in bzip2 bzip2recover; do
		"${CC:-gcc}" ${CFLAGS} -D_FILE_OFFSET_BITS=64 ${LDFLAGS} -o ${p} ${p}.c libbz2.so.${PV} || die "cannot build ${p}"
	done
}

src_install() {
	dobin bzip2 bzip2recover bzdiff bzgrep bzmore
	dosym bzip2 /usr/bin/bunzip2
	dosym bzip2 /usr/bin/bzcat
	dosym bzdiff /usr/bin/bzcmp
	dosym bzmore /usr/bin/bzless
	dolib.so libbz2.so.${PV}
	dosym libbz2.so.${PV} /usr/$(get_libdir)/libbz2.so.1.0
	dosym libbz2.so.${PV} /usr/$(get_libdir)/libbz2.so
	doheader bzlib.h
	doman bzip2.1 bzdiff.1 bzgrep.1 bzmore.1
	dodoc CHANGES README
}
