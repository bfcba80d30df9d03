package ledger

import (
	"encoding/binary"
	"errors"
	"math/bits"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// sealed holds the texts of one entry with their salts, as the side table
// keeps them: secrets in the order of the entry, items in the order of the
// batch. A slot without salt was destroyed.
type sealed struct {
	secrets, items []sealedSlot
}

type sealedSlot struct{ salt, text []byte }

const sealedVersion = 1

func appendSlots(b []byte, slots []sealedSlot) []byte {
	b = binary.AppendUvarint(b, uint64(len(slots)))
	for i := range slots {
		b = appendSlot(b, slots[i].salt, slots[i].text)
	}
	return b
}

func appendSlot(b, salt, text []byte) []byte {
	if salt == nil {
		return append(b, 0)
	}
	b = append(append(b, 1), salt...)
	b = binary.AppendUvarint(b, uint64(len(text)))
	return append(b, text...)
}

func (s *sealed) encode() []byte {
	return appendSlots(appendSlots([]byte{sealedVersion}, s.secrets), s.items)
}

// empty reports that nothing is left.
func (s *sealed) empty() bool {
	for _, list := range [][]sealedSlot{s.secrets, s.items} {
		for i := range list {
			if list[i].salt != nil {
				return false
			}
		}
	}
	return true
}

// decodeSealed reads a row of the side table. The slots point into blob.
func decodeSealed(blob []byte) (*sealed, error) {
	r := reader{b: blob}
	if r.byte(sealedVersion) != sealedVersion {
		return nil, errors.New("the sealed texts are malformed")
	}
	s := &sealed{secrets: r.slots(), items: r.slots()}
	if r.bad || len(r.b) > 0 {
		return nil, errors.New("the sealed texts are malformed")
	}
	return s, nil
}

func (r *reader) slots() []sealedSlot {
	n := r.count(1)
	if n == 0 {
		return nil
	}
	slots := make([]sealedSlot, n)
	for i := range slots {
		if r.byte(1) == 1 {
			slots[i].salt = r.take(saltSize)
			slots[i].text = r.take(r.uvarint())
		}
	}
	return slots
}

// lookup is a Bloom filter over the ids and locators of a batch, so that an
// item is found without opening every batch. It is rebuilt without an item
// when that item is sealed off: nothing of a destroyed locator stays in it.
type lookup []byte

const (
	lookupVersion = 1
	lookupBits    = 12 // for each key
	lookupProbes  = 8
)

// lookupHash is FNV-1a (64 bits) with the finaliser of MurmurHash3. Nothing
// secret rests on it: whoever can read it can read the texts.
func lookupHash(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := 0; i < len(s); i++ {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

func newLookup(keys []uint64) lookup {
	if len(keys) == 0 {
		return nil
	}
	f := make(lookup, 1+(len(keys)*lookupBits+7)/8)
	f[0] = lookupVersion
	for _, h := range keys {
		f.each(h, func(at *byte, bit byte) bool { *at |= bit; return true })
	}
	return f
}

func (f lookup) each(h uint64, visit func(at *byte, bit byte) bool) {
	m := uint64(len(f)-1) * 8
	step := bits.RotateLeft64(h, 32) | 1
	for range lookupProbes {
		at, _ := bits.Mul64(h, m)
		if !visit(&f[1+at/8], 1<<(at%8)) {
			return
		}
		h += step
	}
}

// has reports whether the key may be in the batch. A filter that cannot be
// read may hold anything.
func (f lookup) has(h uint64) bool {
	if len(f) < 2 || f[0] != lookupVersion {
		return true
	}
	found := true
	f.each(h, func(at *byte, bit byte) bool { found = *at&bit != 0; return found })
	return found
}

func itemKeys(keys []uint64, it *Item) []uint64 {
	if it.ID != "" {
		keys = append(keys, lookupHash(it.ID))
	}
	if it.Locator != "" && it.Locator != it.ID {
		keys = append(keys, lookupHash(it.Locator))
	}
	for i := range it.Parts {
		keys = append(keys, lookupHash(it.Parts[i].Locator))
	}
	return keys
}

// Names reports whether key is the id of the item, or the locator of it or of a
// part, alone or as STORE:LOCATOR. store is that of the item's entry.
func (it *Item) Names(key, store string) bool {
	is := func(store, locator string) bool {
		rest, ok := strings.CutPrefix(key, store+":")
		return locator == key || ok && store != "" && locator == rest
	}
	if it.ID == key || is(store, it.Locator) {
		return true
	}
	for i := range it.Parts {
		if is(it.Parts[i].Store, it.Parts[i].Locator) {
			return true
		}
	}
	return false
}

// keyHashes are those of which a filter has one, if the batch has what is called
// so: parts are in it without their store.
func keyHashes(key string) []uint64 {
	hashes := []uint64{lookupHash(key)}
	if _, rest, ok := strings.Cut(key, ":"); ok {
		hashes = append(hashes, lookupHash(rest))
	}
	return hashes
}

// sealItems commits to each item. It returns the commitments one after the
// other, the sealed slots behind b, and the leaf hashes.
func sealItems(b, salts []byte, items []Item) (commitments, sealedBlob []byte, leaves []tlog.Hash, keys []uint64) {
	commitments = make([]byte, 0, 32*len(items))
	leaves = make([]tlog.Hash, len(items))
	keys = make([]uint64, 0, 3*len(items))
	b = binary.AppendUvarint(b, uint64(len(items)))
	var enc, scratch []byte
	for i := range items {
		salt := salts[i*saltSize : (i+1)*saltSize]
		enc = appendItem(enc[:0], &items[i])
		var c [32]byte
		c, scratch = itemCommitment(scratch, salt, enc)
		commitments = append(commitments, c[:]...)
		leaves[i] = leafHash(c[:])
		b = appendSlot(b, salt, enc)
		keys = itemKeys(keys, &items[i])
	}
	return commitments, b, leaves, keys
}
