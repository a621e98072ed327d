// The C side of one Verilated card. build.rs defines CARD (the class), CARD_HEADER, and
// FUNCTION(name), and writes ports.inc from src/card/port_list.rs. With MUTANTS the card has mutants, and
// the environment says which of them it is.

#include CARD_HEADER
#include <cstdlib>
#include <verilated.h>
#include <verilated_vcd_c.h>

extern "C" {

struct CardHandle {
    VerilatedContext context;
    CARD top;
    CardHandle() : context{}, top{&context, "top"} {}
};

// A new card; the address of every port goes to `ports`.
CardHandle* FUNCTION(new)(void** ports) {
    CardHandle* card = new CardHandle;
    card->context.traceEverOn(true);
    CARD* top = &card->top;
#ifdef MUTANTS
    const char* mutant = std::getenv("VOLPLANE_MUTANT");
    top->mutsel = mutant ? std::atoi(mutant) : 0;
#endif
#define PORT(index, name, bytes) \
    static_assert(sizeof(top->name) == bytes, #name " has another width"); \
    ports[index] = &top->name;
#include "ports.inc"
#undef PORT
    return card;
}

void FUNCTION(eval)(CardHandle* card) { card->top.eval(); }

void FUNCTION(trace)(CardHandle* card, VerilatedVcdC* vcd) { card->top.trace(vcd, 99); }

void FUNCTION(delete)(CardHandle* card) {
    // Destructors take the context from the thread, which may have had another card since, or may
    // never have had one.
    Verilated::threadContextp(&card->context);
    card->top.final();
    delete card;
    Verilated::threadContextp(Verilated::defaultContextp());
}

}  // extern "C"
