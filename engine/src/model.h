/* model.h: an open network. */
#ifndef SQZ_MODEL_H
#define SQZ_MODEL_H

#include "plan.h"

struct sqz_model {
    sqz_info info;
    step *steps;
};

#endif
