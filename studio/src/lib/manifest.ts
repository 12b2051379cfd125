/** Names that Python has for what the page names in its own way. */
import type { LikelihoodName } from "./types";

export const LIKELIHOOD_NAMES: Record<string, LikelihoodName> = {
  bernoulli: "bernoulli",
  "continuous-bernoulli": "continuous_bernoulli",
  continuous_bernoulli: "continuous_bernoulli",
  logistic: "discretised_logistic",
  discretised_logistic: "discretised_logistic",
  gaussian: "gaussian",
};
