package container

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"io"
	"strings"
	"testing"
)

// A counted reader counts what is read.
type counted struct {
	io.ReaderAt
	bytes int
}

func (c *counted) ReadAt(b []byte, at int64) (int, error) {
	c.bytes += len(b)
	return c.ReaderAt.ReadAt(b, at)
}

// program is an ELF file of some program headers, the last of which names a loader.
func program(order binary.ByteOrder, class elf.Class, segments int, loader string, size int) []byte {
	ident := [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(class), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)}
	if order == binary.ByteOrder(binary.BigEndian) {
		ident[elf.EI_DATA] = byte(elf.ELFDATA2MSB)
	}
	var b []byte
	add := func(v any) { b, _ = binary.Append(b, order, v) }
	if class == elf.ELFCLASS32 {
		add(elf.Header32{Ident: ident, Type: uint16(elf.ET_EXEC), Version: 1, Phoff: 52, Ehsize: 52, Phentsize: 32, Phnum: uint16(segments)})
		for range segments - 1 {
			add(elf.Prog32{Type: uint32(elf.PT_LOAD)})
		}
		add(elf.Prog32{Type: uint32(elf.PT_INTERP), Off: uint32(52 + 32*segments), Filesz: uint32(size)})
		return append(b, loader...)
	}
	// Of its sections, which say that they are many, the names take a gigabyte when they are inflated.
	sections := uint64(64 + 56*segments + len(loader))
	add(elf.Header64{
		Ident: ident, Type: uint16(elf.ET_EXEC), Version: 1, Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: uint16(segments),
		Shoff: sections, Shentsize: 64, Shnum: 60000, Shstrndx: 1,
	})
	for range segments - 1 {
		add(elf.Prog64{Type: uint32(elf.PT_LOAD)})
	}
	add(elf.Prog64{Type: uint32(elf.PT_INTERP), Off: uint64(64 + 56*segments), Filesz: uint64(size)})
	b = append(b, loader...)
	for range 60000 {
		add(elf.Section64{Type: uint32(elf.SHT_STRTAB), Flags: uint64(elf.SHF_COMPRESSED), Size: 1 << 30})
	}
	return b
}

// What names the loader is found by reading little, whatever else is in the file.
func TestInterpreter(t *testing.T) {
	t.Parallel()
	const loader = "/lib/ld.so\x00"
	little, big := binary.LittleEndian, binary.BigEndian
	for name, test := range map[string]struct {
		file []byte
		want string
	}{
		"script":            {[]byte("#! /bin/sh -e\necho\n"), "/bin/sh"},
		"64 bits":           {program(little, elf.ELFCLASS64, 3, loader, len(loader)), "/lib/ld.so"},
		"64 bits, big":      {program(big, elf.ELFCLASS64, 3, loader, len(loader)), "/lib/ld.so"},
		"32 bits":           {program(little, elf.ELFCLASS32, 3, loader, len(loader)), "/lib/ld.so"},
		"32 bits, big":      {program(big, elf.ELFCLASS32, 1, loader, len(loader)), "/lib/ld.so"},
		"many segments":     {program(little, elf.ELFCLASS64, 60000, loader, len(loader)), ""},
		"a long name":       {program(little, elf.ELFCLASS64, 1, loader, 1<<30), ""},
		"cut in the header": {program(little, elf.ELFCLASS64, 1, loader, len(loader))[:40], ""},
		"cut in the name":   {program(little, elf.ELFCLASS32, 1, loader, len(loader))[:52+32+3], ""},
		"nothing":           {nil, ""},
		"text":              {[]byte(strings.Repeat("x", 100)), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := &counted{ReaderAt: bytes.NewReader(test.file)}
			if got, _ := interpreter(f); got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
			if f.bytes > 8<<10 {
				t.Errorf("%d bytes were read", f.bytes)
			}
		})
	}
}
