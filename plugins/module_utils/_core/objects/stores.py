# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""Which stores of a program write back what was loaded from the same shared place, followed through the bytecode.

Along every path, through registers, stack, subprograms and callbacks, go the pointers to what CPUs share (values of
maps, globals) and what was loaded through them. A store of what was loaded there and changed since is a hit, unless one
spin lock was held from the load to the store. Not followed: per-CPU maps, and places that the CPU's number leads to.

What to say of a hit is the business of lint.py.
"""

from __future__ import annotations

import heapq
from typing import NamedTuple

from ..kernel import bpf
from . import bytecode

STEPS = 1_000_000  # instructions followed in one program, all paths together: some seconds
CALLS = 8  # MAX_CALL_FRAMES: how deep the kernel lets subprograms nest
OFFSETS = 8  # of one variable, before a set of places becomes "somewhere in it"

ARRAY_OF_MAPS, HASH_OF_MAPS = 12, 13  # enum bpf_map_type

# enum bpf_func_id: the helpers that give a pointer to a value, and those that we otherwise know
LOOKUP, UPDATE, CPU, TASK, TASK_BTF, LOCAL_STORAGE = 1, 2, 8, 35, 158, 81
STORAGES = {107, 145, 156, 210}  # bpf_sk_storage_get, inode, task, cgrp
LOCK, UNLOCK = 93, 94
FOR_EACH, LOOP, TIMER = 164, 181, 170
LOCKING = {
    "bpf_res_spin_lock": 1,
    "bpf_res_spin_lock_irqsave": 1,
    "bpf_res_spin_unlock": -1,
    "bpf_res_spin_unlock_irqrestore": -1,
}


class TooMuch(Exception):
    """The program has more paths than are worth following."""


class Hit(NamedTuple):
    """A store, by instruction of a section: what it stores was loaded there and changed by `how`.

    `how` is add, or, and, xor, else other. A global's map is its section without the dot, `variable` its name.
    """

    section: int
    instruction: int
    map: str
    variable: str
    by_helper: bool
    how: str
    size: int


def lost(image: bytecode.Image, types: dict, function: bytecode.Function) -> set:
    """The set of Hits of a program (bytecode.Function). `types` are the maps' shapes by name, TooMuch as it says.

    An inner map's shape stands under "NAME[]".
    """
    walker = _Walker(image, types)
    walker.run(function)
    return walker.hits


# ---- what a register may hold --------------------------------------------------------------------
#
# A value is None (nothing that matters here) or a tuple that begins with its kind:
#     (MAP, {name})                           a map
#     (VALUE, {(map, variable, offset)})      a pointer into shared values; offset None: somewhere in it
#     (LOADED, {(map, variable, offset, is_locked)}, how)   was loaded from there; how: changed by what, "" not at all
#     (STACK, frame, offset)                  a pointer into a stack frame
#     (CODE, section, instruction)            a callback
#     (OWN,)                                  what no other CPU has at the same time: its number, its current task
# Along different ways together pointers and what was loaded add up (either may be true), OWN must hold on both.

MAP, VALUE, LOADED, STACK, CODE, OWN = range(6)
OWNED = (OWN,)


def _joined_values(one, other):
    if one == other:
        return one
    if one is None or other is None:  # NULL on one way: the other way's pointer still counts
        left = one or other
        return None if left == OWNED else left
    if one[0] == other[0]:
        if one[0] == LOADED:
            return (LOADED, one[1] | other[1], _joined_ways(one[2], other[2]))
        if one[0] == MAP:
            return (MAP, one[1] | other[1])
        if one[0] == VALUE:
            return (VALUE, _bounded(one[1] | other[1]))
        if one[0] == STACK and one[1] == other[1]:
            return (STACK, one[1], None)
    return next((each for kind in (VALUE, LOADED) for each in (one, other) if each[0] == kind), None)


def _joined_ways(one, other):
    return one if one == other or not other else other if not one else "other"


def _bounded(places):
    """The same places, where too many offsets of one variable have become one that may be any."""
    counts = {}
    for name, variable, dummy in places:
        counts[name, variable] = counts.get((name, variable), 0) + 1
    wide = {key for key, count in counts.items() if count > OFFSETS} | {
        place[:2] for place in places if place[2] is None
    }
    return frozenset((*place[:2], None) if place[:2] in wide else place for place in places)


def _moved(value, by):
    """A pointer moved by a number of bytes; None: by nobody knows how many."""
    if value[0] == STACK:
        return (STACK, value[1], None if by is None or value[2] is None else value[2] + by)
    moved = (
        (name, variable, None if by is None or at is None or not -(1 << 29) < at + by < 1 << 29 else at + by)
        for name, variable, at in value[1]
    )
    return (VALUE, _bounded(frozenset(moved)))


class _State:
    """Registers, the stacks of all frames by (frame, offset), and how many locks are held."""

    __slots__ = ("locks", "registers", "stack")

    def __init__(self, registers, stack, locks):
        self.registers, self.stack, self.locks = registers, stack, locks

    def copy(self) -> _State:
        return _State(list(self.registers), dict(self.stack), self.locks)

    def key(self) -> tuple:
        return tuple(self.registers), frozenset(self.stack.items()), self.locks

    def __eq__(self, other):
        return (self.registers, self.stack, self.locks) == (other.registers, other.stack, other.locks)

    __hash__ = None


def _joined(one, other):
    registers = [_joined_values(*pair) for pair in zip(one.registers, other.registers)]
    stack = {}
    for slot in one.stack.keys() | other.stack.keys():
        value = _joined_values(one.stack.get(slot), other.stack.get(slot))
        if value is not None:
            stack[slot] = value
    return _State(registers, stack, min(one.locks, other.locks))


# ---- following a program -------------------------------------------------------------------------

# an opcode's class, its width for loads and stores, its mode, its operation
LD, LDX, ST, STX, ALU, JMP, JMP32, ALU64 = range(8)
WIDTHS = {0x00: 4, 0x08: 2, 0x10: 1, 0x18: 8}
ATOMIC = 0xC0
ADD, SUB, MUL, OR, AND, LSH, RSH, NEG, XOR, MOV, ARSH, END = (
    *(0x00, 0x10, 0x20, 0x40, 0x50, 0x60, 0x70, 0x80),
    *(0xA0, 0xB0, 0xC0, 0xD0),
)
HOW = {ADD: "add", SUB: "add", OR: "or", AND: "and", XOR: "xor"}
KEEPS_OWN = {ADD, MUL, AND, LSH, RSH, ARSH}  # by a constant: the table's size as a mask, a width's extension, an index
JA, JEQ, JNE, CALL, EXIT = 0x00, 0x10, 0x50, 0x80, 0x90
LD_IMM64, CMPXCHG = 0x18, 0xF1


class _Walker:
    """Follows one program from its first instruction to every exit; `hits` fills meanwhile."""

    def __init__(self, image, types):
        self.image, self.types = image, types
        self.hits = set()
        self.steps = 0
        self._results, self._leaders = {}, {}

    def run(self, function: bytecode.Function) -> None:
        self._function(function, _State([None] * 10 + [(STACK, 0, 0)], {}, 0), 0)

    def _function(self, function, entry, frame):
        """The state at the function's exits together, None where it never ends."""
        key = (function, entry.key())
        if key not in self._results:
            self._results[key] = None  # a recursion, which the kernel refuses, ends here
            self._results[key] = self._follow(function, entry, frame)
        return self._results[key]

    def _follow(self, function, entry, frame):
        states, waiting, ended = {function.start: entry}, [function.start], None
        while waiting:
            at = heapq.heappop(waiting)
            for target, after in self._block(function, at, states[at].copy(), frame):
                if target is None:
                    ended = after if ended is None else _joined(ended, after)
                elif function.start <= target < function.end:
                    before = states.get(target)
                    merged = after if before is None else _joined(before, after)
                    if before is None or merged != before:
                        states[target] = merged
                        if target not in waiting:
                            heapq.heappush(waiting, target)
        return ended

    def _block(self, function, at, state, frame):
        """[(instruction, state)] of what follows the straight run that begins at `at`; instruction None: exit."""
        code, leaders = self.image.code(function.section), self._leaders_of(function)
        while True:
            self.steps += 1
            if self.steps > STEPS:
                raise TooMuch
            op = code[at][0]
            kind = op & 7
            if kind in (JMP, JMP32) and op & 0xF0 != CALL:
                return self._jumps(state, at, code[at])
            following = at + (2 if op == LD_IMM64 else 1)
            if kind in (JMP, JMP32):
                self._call(state, function.section, at, code[at], frame)
            else:
                self._plain(state, function.section, at, code[at])
            at = following
            if at in leaders or at >= function.end:
                return [(at, state)]

    def _leaders_of(self, function):
        """Where jumps of a function lead."""
        if function not in self._leaders:
            code = self.image.code(function.section)
            if function.end > len(code):
                raise ValueError(f"function {function.name} ends beyond its section")
            self._leaders[function] = {
                at + 1 + (imm if op == JMP32 | JA else off)
                for at, (op, dummy, dummy, off, imm) in enumerate(code[function.start : function.end], function.start)
                if op & 7 in (JMP, JMP32) and op & 0xF0 not in (CALL, EXIT)
            }
        return self._leaders[function]

    def _jumps(self, state, at, instruction):
        op, dst, dummy, off, imm = instruction
        operation = op & 0xF0
        if operation == EXIT:
            return [(None, state)]
        if operation == JA:
            return [(at + 1 + (imm if op & 7 == JMP32 else off), state)]
        taken, value = state.copy(), state.registers[dst]
        if not op & 8 and imm == 0 and operation in (JEQ, JNE) and value and value[0] == VALUE:
            (taken if operation == JEQ else state).registers[dst] = None  # here it is NULL
        return [(at + 1 + off, taken), (at + 1, state)]

    def _plain(self, state, section, at, instruction):
        """What an instruction that neither jumps nor calls does to the state."""
        op, dst, src, off, imm = instruction
        kind, registers = op & 7, state.registers
        if op == LD_IMM64:
            registers[dst] = self._referred(section, at, imm)
        elif kind in (ALU, ALU64):
            registers[dst] = _computed(op, registers[dst], registers[src] if op & 8 else None, imm)
        elif kind == LDX:
            registers[dst] = _loaded(state, registers[src], off)
        elif kind == LD:  # the packet, by the calls that only BPF's ancestor had
            registers[:6] = [None] * 6
        elif op & 0xE0 == ATOMIC:
            if imm & 1:  # BPF_FETCH
                registers[0 if imm == CMPXCHG else src] = None
        else:
            stored = registers[src] if kind == STX else None
            self._store(state, (section, at), registers[dst], off, WIDTHS[op & 0x18], stored)

    def _referred(self, section, at, imm):
        symbol = self.image.reference(section, at)
        if symbol is None or not 0 < symbol.section < len(self.image.sections):
            return None
        target, offset = self.image.sections[symbol.section], symbol.value + imm
        if target.flags & bytecode.EXECUTABLE:
            return (CODE, symbol.section, offset // 8)
        thing = self.image.object_at(symbol.section, offset)
        if target.name == ".maps":
            return (MAP, frozenset([thing.name])) if thing else None
        kind = target.name.split(".")[1] if target.name.startswith(".") else ""
        if kind not in ("data", "bss"):
            return None  # what is read only, this CPU's own, or the kernel's
        name, start = (thing.name, thing.value) if thing else ("", 0)
        return (VALUE, frozenset([(target.name[1:], name, offset - start)]))

    def _store(self, state, where, pointer, off, width, stored):
        if pointer is None:
            return
        if pointer[0] == STACK and pointer[2] is not None:
            start = pointer[2] + off
            for offset in range(start, start + width):
                state.stack.pop((pointer[1], offset), None)
            if stored is not None:
                state.stack[pointer[1], start] = stored
        elif pointer[0] == VALUE and stored and stored[0] == LOADED and stored[2]:
            for name, variable, at in pointer[1]:
                place = (name, variable, None if at is None else at + off)
                if any(_is_lost(place, loaded, state.locks) for loaded in stored[1]):
                    self.hits.add(Hit(*where, name, variable, False, stored[2], width))

    # -- calls

    def _call(self, state, section, at, instruction, frame):
        dummy, dummy, src, dummy, imm = instruction
        registers, reference = state.registers, self.image.reference(section, at)
        result = None
        if reference is not None and not reference.section:
            self._lock(state, LOCKING.get(reference.name, 0))
        elif src == 1:
            place = (reference.section, reference.value // 8 + imm + 1) if reference else (section, at + 1 + imm)
            result = self._subprogram(state, place, registers[1:6], frame)
        elif src == 0 and instruction[0] == JMP | CALL:
            result = self._helper(state, (section, at), imm, frame)
        registers[:6] = [result] + [None] * 5

    def _subprogram(self, state, place, arguments, frame):
        """What the function at `place` returns; the stacks and locks are then as it leaves them."""
        function = self.image.function_at(*place)
        if function is None or frame + 1 >= CALLS:
            return None
        registers = [None, *arguments, *[None] * (9 - len(arguments)), (STACK, frame + 1, 0)]
        after = self._function(function, _State(registers, dict(state.stack), state.locks), frame + 1)
        if after is None:
            return None
        state.stack = {slot: value for slot, value in after.stack.items() if slot[0] <= frame}
        state.locks = after.locks
        result = after.registers[0]
        return None if result and result[0] == STACK and result[1] > frame else result

    def _helper(self, state, where, number, frame):
        dummy, first, second, third, fourth, dummy = state.registers[:6]
        names = first[1] if first and first[0] == MAP else ()
        if number in (LOOKUP, *STORAGES, LOCAL_STORAGE):
            return self._looked_up(state, number, names, second)
        if number in (CPU, TASK, TASK_BTF):
            return OWNED
        if number in (LOCK, UNLOCK):
            self._lock(state, 1 if number == LOCK else -1)
        elif number == UPDATE:
            self._updated(state, where, names, third)
        elif number in (FOR_EACH, LOOP, TIMER) and second and second[0] == CODE:
            if number == TIMER:
                names = {place[0] for place in first[1]} if first and first[0] == VALUE else ()
            arguments = [None, third] if number == LOOP else [first, None, self._value_of(names), third, fourth]
            once = state.copy()
            self._subprogram(once, second[1:], arguments, frame)
            twice = _joined(state, once)
            self._subprogram(twice, second[1:], arguments, frame)
            state.stack = _joined(state, twice).stack
        return None

    def _looked_up(self, state, number, names, key):
        if key == OWNED:  # the storage of the task that runs here
            return None
        if number == LOOKUP:
            inner = [name for name in names if self._type(name) in (ARRAY_OF_MAPS, HASH_OF_MAPS)]
            if inner:
                return (MAP, frozenset(name + "[]" for name in inner))
            if any(self._is_own_key(state, key, name) for name in names):
                return None
        return self._value_of(names)

    def _value_of(self, names):
        """A pointer to a value of these maps, None where no other CPU has it too."""
        shared = frozenset((name, "", 0) for name in names if self._type(name) not in bpf.MAP_PER_CPU)
        return (VALUE, shared) if shared else None

    def _type(self, name):
        return self.types[name].type if name in self.types else None

    def _is_own_key(self, state, key, name):
        """Whether the CPU's number, or its task, is in the key that the pointer points to."""
        if not key or key[0] != STACK or key[2] is None or name not in self.types:
            return False
        size = self.types[name].key_size
        return any(state.stack.get((key[1], key[2] + at)) == OWNED for at in range(size))

    def _updated(self, state, where, names, value):
        """bpf_map_update_elem writes a copy on the stack over the entry."""
        if not value or value[0] != STACK or value[2] is None:
            return
        for name in names:
            shape = self.types.get(name)
            for at in range(shape.value_size if shape and shape.type not in bpf.MAP_PER_CPU else 0):
                stored = state.stack.get((value[1], value[2] + at))
                if stored and stored[0] == LOADED and stored[2]:
                    place = (name, "", at)
                    if any(_is_lost(place, loaded, state.locks) for loaded in stored[1]):
                        self.hits.add(Hit(*where, name, "", True, stored[2], 8))

    def _lock(self, state, change):
        state.locks = max(0, state.locks + change)
        if change < 0 and not state.locks:  # what was loaded under the lock is now as good as any other
            state.registers[:] = [_unlocked(value) for value in state.registers]
            state.stack = {slot: _unlocked(value) for slot, value in state.stack.items()}


def _is_lost(place, loaded, locks):
    """Whether a store at `place` writes back what was `loaded` there, not under one lock from load to store."""
    name, variable, at, was_locked = loaded
    same = place[:2] == (name, variable) and (at == place[2] or at is None or place[2] is None)
    return same and not (locks and was_locked)


def _loaded(state, pointer, off):
    if not pointer:
        return None
    if pointer[0] == STACK and pointer[2] is not None:
        return state.stack.get((pointer[1], pointer[2] + off))
    if pointer[0] == VALUE:
        is_locked = state.locks > 0
        places = (_moved(pointer, off))[1]
        return (LOADED, frozenset((*place, is_locked) for place in places), "")
    return None


def _unlocked(value):
    if value and value[0] == LOADED:
        return (LOADED, frozenset((*place[:3], False) for place in value[1]), value[2])
    return value


def _computed(op, left, right, imm):
    """What `left op right` is; `right` is None for a constant, whose value is `imm`."""
    operation, is_register = op & 0xF0, op & 8
    if operation == MOV:
        value = right if is_register else None
    elif operation in (ADD, SUB) and _is_pointer(left):
        by = None if is_register else imm if operation == ADD else -imm
        value = None if right == OWNED else _moved(left, by)
    elif operation == ADD and _is_pointer(right):
        value = None if left == OWNED else _moved(right, None)
    elif left == OWNED:
        value = OWNED if operation in KEEPS_OWN and not is_register else None
    else:
        value = _changed(operation, left, right)
    is_narrow = op & 7 == ALU and operation != END
    return None if is_narrow and value and value[0] not in (LOADED, OWN) else value


def _is_pointer(value):
    return value is not None and value[0] in (VALUE, STACK)


def _changed(operation, left, right):
    loaded = [value for value in (left, right) if value and value[0] == LOADED]
    if not loaded:
        return None
    places = frozenset().union(*(value[1] for value in loaded))
    how = HOW.get(operation, "other")
    before = [value[2] for value in loaded if value[2]]
    return (LOADED, places, how if all(each == how for each in before) else "other")
