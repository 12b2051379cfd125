/** The page's names of the likelihoods, by the names in the manifest. */
import type { LikelihoodName } from "./types";

export const LIKELIHOOD_NAMES: Record<string, LikelihoodName> = {
  bernoulli: "bernoulli",
  "continuous-bernoulli": "continuous_bernoulli",
  continuous_bernoulli: "continuous_bernoulli",
  logistic: "discretised_logistic",
  discretised_logistic: "discretised_logistic",
  gaussian: "gaussian",
};
