// A reader of a mirror in Go, with nothing but the standard library, as docs/format.md tells.
//
//	reader FOLDER CHANNEL
//
// It checks the manifest and every vector shard, and prints their rows as JSON: ids from the encoded pages, all else
// from where the arithmetic on the footer says that it lies.
package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
)

type object struct {
	Path   string
	Bytes  int
	Sha256 string
}

type shard struct {
	object
	Rows   int
	Footer struct {
		Bytes  int
		Sha256 string
	}
}

type generation struct {
	Collection   struct{ Checkpoint string }
	VectorShards []shard `json:"vector_shards"`
}

type manifest struct {
	generation
	Version int
	Format  int
	Other   *generation
}

// served is the generation of a checkpoint; without one, the one at the top.
func (found *manifest) served(checkpoint *string) generation {
	if checkpoint == nil || *checkpoint == found.Collection.Checkpoint {
		return found.generation
	}
	must(found.Other != nil && found.Other.Collection.Checkpoint == *checkpoint, "no checkpoint %s", *checkpoint)
	return *found.Other
}

type rows struct {
	Path    string
	IDs     []string
	Keys    []string
	Ordinal []int32
	Prefix  [][]int8
	Vector  [][]float32
}

func must(ok bool, format string, arguments ...any) {
	if !ok {
		fmt.Fprintf(os.Stderr, format+"\n", arguments...)
		os.Exit(1)
	}
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func read(folder, name string) []byte {
	must(filepath.IsLocal(name), "path %q", name)
	data, err := os.ReadFile(filepath.Join(folder, name))
	must(err == nil, "%s: %v", name, err)
	return data
}

// unseal checks that `sha256` is that of the bytes without that member and without the last newline.
func unseal(data []byte, into any) {
	var seal struct{ Sha256 string }
	must(json.Unmarshal(data, &seal) == nil, "not JSON")
	text := strings.TrimSuffix(string(data), "\n")
	member := `"sha256":"` + seal.Sha256 + `"`
	if strings.Contains(text, member+",") {
		text = strings.Replace(text, member+",", "", 1)
	} else {
		text = strings.Replace(text, ","+member, "", 1)
	}
	must(digest([]byte(text)) == seal.Sha256, "a broken seal")
	must(json.Unmarshal(data, into) == nil, "not of its kind")
}

func main() {
	folder, channel := os.Args[1], os.Args[2]
	var named struct {
		Version    int
		Checkpoint *string
	}
	unseal(read(folder, "channels/"+channel+".json"), &named)
	var found manifest
	unseal(read(folder, fmt.Sprintf("manifests/%012d.json", named.Version)), &found)
	must(found.Format == 1, "format %d", found.Format)
	shards := []rows{}
	for _, stored := range found.served(named.Checkpoint).VectorShards {
		shards = append(shards, open(folder, stored))
	}
	must(json.NewEncoder(os.Stdout).Encode(map[string]any{"version": found.Version, "shards": shards}) == nil, "no room")
}

func open(folder string, stored shard) rows {
	data := read(folder, stored.Path)
	must(len(data) == stored.Bytes && digest(data) == stored.Sha256, "%s is damaged", stored.Path)
	footer := data[len(data)-stored.Footer.Bytes:]
	must(digest(footer) == stored.Footer.Sha256, "%s: its footer is damaged", stored.Path)
	must(bytes.HasSuffix(footer, []byte("PAR1")), "%s is no Parquet file", stored.Path)
	meta := (&thrift{data: footer}).structure()
	must(meta.number(3) == stored.Rows, "%s: %d rows", stored.Path, meta.number(3))
	out := rows{Path: stored.Path}
	for _, group := range meta.list(4) {
		columns := map[string]fields{}
		for _, column := range group.(fields).list(1) {
			chunk := column.(fields)[3].(fields)
			columns[chunk.list(3)[0].(string)] = chunk
		}
		out.add(data, columns, group.(fields).number(3), notes(meta))
	}
	return out
}

func notes(meta fields) map[string]string {
	found := map[string]string{}
	for _, pair := range meta.list(5) {
		found[pair.(fields)[1].(string)] = pair.(fields)[2].(string)
	}
	return found
}

func number(text string) int {
	var value int
	_, err := fmt.Sscan(text, &value)
	must(err == nil, "%q is no number", text)
	return value
}

func (out *rows) add(data []byte, columns map[string]fields, count int, notes map[string]string) {
	dimensions, prefix := number(notes["tierloom.dimensions"]), number(notes["tierloom.prefix_dimensions"])
	out.IDs = append(out.IDs, texts(data, columns["document_id"])...)
	keys, ordinals := payload(data, columns["key"], count, 8), payload(data, columns["ordinal"], count, 4)
	prefixes, vectors := payload(data, columns["prefix"], count, prefix), payload(data, columns["vector"], count, 2*dimensions)
	for row := 0; row < count; row++ {
		out.Keys = append(out.Keys, fmt.Sprint(binary.LittleEndian.Uint64(keys[8*row:])))
		out.Ordinal = append(out.Ordinal, int32(binary.LittleEndian.Uint32(ordinals[4*row:])))
		code, vector := make([]int8, prefix), make([]float32, dimensions)
		for at := range code {
			code[at] = int8(prefixes[row*prefix+at])
		}
		for at := range vector {
			vector[at] = half(binary.LittleEndian.Uint16(vectors[2*(row*dimensions+at):]))
		}
		out.Prefix, out.Vector = append(out.Prefix, code), append(out.Vector, vector)
	}
}

// payload gives the values of a fixed-width column: they end where its one page ends.
func payload(data []byte, chunk fields, rows, width int) []byte {
	end := chunk.number(9) + chunk.number(7)
	return data[end-rows*width : end]
}

// half widens a float16.
func half(bits uint16) float32 {
	sign, exponent, fraction := 1.0, int(bits>>10&31), float64(bits&1023)
	if bits>>15 == 1 {
		sign = -1
	}
	if exponent == 0 {
		return float32(sign * math.Ldexp(fraction, -24))
	}
	return float32(sign * math.Ldexp(1024+fraction, exponent-25))
}

// texts decodes a column of strings: snappy, with or without a dictionary.
func texts(data []byte, chunk fields) []string {
	begin := chunk.number(9)
	if offset, there := chunk[11]; there && int(offset.(int64)) > 0 {
		begin = int(offset.(int64))
	}
	end := begin + chunk.number(7)
	var dictionary, values []string
	for begin < end {
		reader := &thrift{data: data[begin:end]}
		header := reader.structure()
		page := data[begin+reader.at : begin+reader.at+header.number(3)]
		begin += reader.at + header.number(3)
		if chunk.number(4) == 1 {
			page = unsnap(page)
		}
		if header.number(1) == 2 {
			dictionary = plain(page, header[7].(fields).number(1))
			continue
		}
		about := header[5].(fields)
		if about.number(2) == 0 {
			values = append(values, plain(page, about.number(1))...)
			continue
		}
		for _, index := range hybrid(page[1:], int(page[0]), about.number(1)) {
			values = append(values, dictionary[index])
		}
	}
	return values
}

func plain(page []byte, count int) []string {
	values := make([]string, count)
	for at := range values {
		length := binary.LittleEndian.Uint32(page)
		values[at] = string(page[4 : 4+length])
		page = page[4+length:]
	}
	return values
}

// hybrid decodes Parquet's runs and bit-packed groups of `width` bits.
func hybrid(data []byte, width, count int) []int {
	values := []int{}
	for len(values) < count {
		header, used := binary.Uvarint(data)
		data = data[used:]
		size := (width + 7) / 8
		if header&1 == 0 {
			value := 0
			for at := 0; at < size; at++ {
				value |= int(data[at]) << (8 * at)
			}
			data = data[size:]
			for run := header >> 1; run > 0; run-- {
				values = append(values, value)
			}
			continue
		}
		packed := int(header>>1) * 8
		for at := 0; at < packed; at++ {
			value := 0
			for bit := 0; bit < width; bit++ {
				place := at*width + bit
				value |= int(data[place/8]>>(place%8)&1) << bit
			}
			values = append(values, value)
		}
		data = data[packed*width/8:]
	}
	return values[:count]
}

// unsnap decompresses a block of snappy.
func unsnap(data []byte) []byte {
	length, used := binary.Uvarint(data)
	out := make([]byte, 0, length)
	for at := used; at < len(data); {
		tag := data[at]
		at++
		if tag&3 == 0 {
			size := int(tag >> 2)
			if extra := size - 59; extra > 0 {
				size = 0
				for byteAt := 0; byteAt < extra; byteAt++ {
					size |= int(data[at+byteAt]) << (8 * byteAt)
				}
				at += extra
			}
			out = append(out, data[at:at+size+1]...)
			at += size + 1
			continue
		}
		size, offset := int(tag>>2)+1, 0
		switch tag & 3 {
		case 1:
			size, offset = int(tag>>2&7)+4, int(tag>>5)<<8|int(data[at])
			at++
		case 2:
			offset = int(binary.LittleEndian.Uint16(data[at:]))
			at += 2
		case 3:
			offset = int(binary.LittleEndian.Uint32(data[at:]))
			at += 4
		}
		for ; size > 0; size-- {
			out = append(out, out[len(out)-offset])
		}
	}
	return out
}

// fields are the members of a structure by their number: int64, string, []any, bool, fields.
type fields map[int]any

func (f fields) number(at int) int {
	value, _ := f[at].(int64)
	return int(value)
}

func (f fields) list(at int) []any {
	value, _ := f[at].([]any)
	return value
}

// thrift reads the compact protocol.
type thrift struct {
	data []byte
	at   int
}

func (t *thrift) byte() byte {
	t.at++
	return t.data[t.at-1]
}

func (t *thrift) unsigned() uint64 {
	value, used := binary.Uvarint(t.data[t.at:])
	must(used > 0, "not Thrift")
	t.at += used
	return value
}

func (t *thrift) signed() int64 {
	value := t.unsigned()
	return int64(value>>1) ^ -int64(value&1)
}

func (t *thrift) structure() fields {
	found, last := fields{}, 0
	for {
		head := t.byte()
		if head == 0 {
			return found
		}
		if delta := int(head >> 4); delta > 0 {
			last += delta
		} else {
			last = int(t.signed())
		}
		kind := head & 15
		if kind == 1 || kind == 2 {
			found[last] = kind == 1
			continue
		}
		found[last] = t.value(kind)
	}
}

func (t *thrift) value(kind byte) any {
	switch kind {
	case 1, 2:
		return t.byte() == 1
	case 3:
		return int64(t.byte())
	case 4, 5, 6:
		return t.signed()
	case 7:
		t.at += 8
		return nil
	case 8:
		size := int(t.unsigned())
		t.at += size
		return string(t.data[t.at-size : t.at])
	case 9, 10:
		head := t.byte()
		size := int(head >> 4)
		if size == 15 {
			size = int(t.unsigned())
		}
		values := make([]any, size)
		for at := range values {
			values[at] = t.value(head & 15)
		}
		return values
	case 12:
		return t.structure()
	}
	must(false, "Thrift type %d", kind)
	return nil
}
